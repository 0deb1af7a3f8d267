package main

func otherGoals() []goal { return nil }
