package main

import (
	"bufio"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// confirm asks a person before something that is hard to take back. Nobody is
// asked with --yes, nor where nobody could answer.
func (a *app) confirm(yes bool, question string, args ...any) error {
	if yes || !a.interactive() {
		return nil
	}
	return a.ask(question, args...)
}

// ask puts a question and returns an error unless the answer is yes.
func (a *app) ask(question string, args ...any) error {
	fmt.Fprintf(a.Err, question+" [y/N] ", args...)
	answer, err := bufio.NewReader(a.In).ReadString('\n')
	if err != nil && answer == "" {
		return usagef("no answer: %v (say --yes to go on without a question)", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return failf("nothing was done")
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func joined(names []string) string { return strings.Join(names, ", ") }

func compare(a, b string) int { return strings.Compare(a, b) }

func percentText(percent float64) string { return fmt.Sprintf("%.1f %%", percent) }
