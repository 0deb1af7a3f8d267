#!/bin/sh
# Runs on the recovered server after start; a status other than 0 fails the step.
set -eu
echo "application started on $(hostname)"
