package aws

type machineType struct{}
