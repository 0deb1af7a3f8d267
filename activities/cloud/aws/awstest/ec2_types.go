package awstest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// instanceType is a type with its real figures (https://docs.aws.amazon.com/ec2/latest/instancetypes/).
type instanceType struct {
	name   string
	vcpus  int32
	memory int64 // MiB
	cores  int32
	arm    bool
}

// instanceTypes are the types that the double offers, out of the many.
var instanceTypes = []instanceType{
	{"c6i.2xlarge", 8, 16384, 4, false},
	{"c6i.large", 2, 4096, 1, false},
	{"c6i.xlarge", 4, 8192, 2, false},
	{"m6i.2xlarge", 8, 32768, 4, false},
	{"m6i.4xlarge", 16, 65536, 8, false},
	{"m6i.large", 2, 8192, 1, false},
	{"m6i.xlarge", 4, 16384, 2, false},
	{"m7g.large", 2, 8192, 2, true},
	{"m7g.medium", 1, 4096, 1, true},
	{"m7g.xlarge", 4, 16384, 4, true},
	{"r6i.2xlarge", 8, 65536, 4, false},
	{"r6i.large", 2, 16384, 1, false},
	{"r6i.xlarge", 4, 32768, 2, false},
	{"t3.2xlarge", 8, 32768, 4, false},
	{"t3.large", 2, 8192, 1, false},
	{"t3.medium", 2, 4096, 1, false},
	{"t3.micro", 2, 1024, 1, false},
	{"t3.small", 2, 2048, 1, false},
	{"t3.xlarge", 4, 16384, 2, false},
}

// findType finds an instance type by its name.
func findType(name string) (instanceType, bool) {
	i := slices.IndexFunc(instanceTypes, func(t instanceType) bool { return t.name == name })
	if i < 0 {
		return instanceType{}, false
	}
	return instanceTypes[i], true
}

// offered tells whether a zone has a type: not every zone has every type
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypeOfferings.html), so here the
// third zone of a region has none of m7g.
func (t instanceType) offered(zone string) bool {
	return !strings.HasPrefix(t.name, "m7g.") || !strings.HasSuffix(zone, "c")
}

func (t instanceType) architecture() types.ArchitectureValues {
	if t.arm {
		return types.ArchitectureValuesArm64
	}
	return types.ArchitectureValuesX8664
}

func (t instanceType) info() types.InstanceTypeInfo {
	burst := strings.HasPrefix(t.name, "t")
	maker := "Intel"
	if t.arm {
		maker = "AWS"
	}
	return types.InstanceTypeInfo{
		InstanceType: types.InstanceType(t.name), CurrentGeneration: aws.Bool(true), BareMetal: aws.Bool(false), FreeTierEligible: aws.Bool(t.name == "t3.micro"),
		BurstablePerformanceSupported: &burst, InstanceStorageSupported: aws.Bool(false), AutoRecoverySupported: aws.Bool(true),
		Hypervisor:            types.InstanceTypeHypervisorNitro,
		VCpuInfo:              &types.VCpuInfo{DefaultVCpus: &t.vcpus, DefaultCores: &t.cores, DefaultThreadsPerCore: aws.Int32(t.vcpus / t.cores)},
		MemoryInfo:            &types.MemoryInfo{SizeInMiB: &t.memory},
		ProcessorInfo:         &types.ProcessorInfo{Manufacturer: &maker, SupportedArchitectures: []types.ArchitectureType{types.ArchitectureType(t.architecture())}},
		EbsInfo:               &types.EbsInfo{EbsOptimizedSupport: types.EbsOptimizedSupportDefault, EncryptionSupport: types.EbsEncryptionSupportSupported, NvmeSupport: types.EbsNvmeSupportRequired},
		SupportedUsageClasses: []types.UsageClassType{types.UsageClassTypeOnDemand, types.UsageClassTypeSpot}, SupportedRootDeviceTypes: []types.RootDeviceType{types.RootDeviceTypeEbs},
		SupportedVirtualizationTypes: []types.VirtualizationType{types.VirtualizationTypeHvm}, SupportedBootModes: []types.BootModeType{types.BootModeTypeUefi},
	}
}

func (t instanceType) filter(name string) ([]string, bool) {
	info := t.info()
	switch name {
	case "instance-type":
		return []string{t.name}, true
	case "current-generation", "auto-recovery-supported":
		return []string{"true"}, true
	case "bare-metal", "instance-storage-supported":
		return []string{"false"}, true
	case "burstable-performance-supported":
		return []string{strconv.FormatBool(*info.BurstablePerformanceSupported)}, true
	case "free-tier-eligible":
		return []string{strconv.FormatBool(*info.FreeTierEligible)}, true
	case "hypervisor":
		return []string{"nitro"}, true
	case "memory-info.size-in-mib":
		return []string{strconv.FormatInt(t.memory, 10)}, true
	case "vcpu-info.default-vcpus":
		return []string{strconv.Itoa(int(t.vcpus))}, true
	case "vcpu-info.default-cores":
		return []string{strconv.Itoa(int(t.cores))}, true
	case "processor-info.supported-architecture":
		return []string{string(t.architecture())}, true
	case "supported-usage-class":
		return []string{"on-demand", "spot"}, true
	case "supported-root-device-type":
		return []string{"ebs"}, true
	case "supported-virtualization-type":
		return []string{"hvm"}, true
	}
	return nil, false
}

// describeInstanceTypes refuses types that do not exist as EC2 does, with InvalidInstanceType
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html).
func (c *Call) describeInstanceTypes(in *ec2.DescribeInstanceTypesInput) (*ec2.DescribeInstanceTypesOutput, error) {
	var unknown []string
	for _, want := range in.InstanceTypes {
		if _, ok := findType(string(want)); !ok {
			unknown = append(unknown, string(want))
		}
	}
	if len(unknown) > 0 {
		return nil, fault("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", strings.Join(unknown, ", "))
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	var all []types.InstanceTypeInfo
	for _, t := range instanceTypes {
		if len(in.InstanceTypes) > 0 && !slices.Contains(in.InstanceTypes, types.InstanceType(t.name)) {
			continue
		}
		ok, err := (&resource{}).matches(in.Filters, t.filter)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, t.info())
		}
	}
	// 100 a page at most: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypes.html
	size := min(pageOf(in.MaxResults), 100)
	all, next, err := page(c, all, &size, in.NextToken)
	return &ec2.DescribeInstanceTypesOutput{InstanceTypes: all, NextToken: next}, err
}

// pageOf is the wanted size of a page, large when nothing was said.
func pageOf(max *int32) int32 {
	if n := aws.ToInt32(max); n > 0 {
		return n
	}
	return 1000
}

func (c *Call) describeOfferings(in *ec2.DescribeInstanceTypeOfferingsInput) (*ec2.DescribeInstanceTypeOfferingsOutput, error) {
	type place struct{ name, zone string }
	var places []place
	switch in.LocationType {
	case "", types.LocationTypeRegion:
		places = []place{{c.Name, c.Name + "a"}}
	case types.LocationTypeAvailabilityZone:
		for _, z := range zonesOf(c.Name) {
			places = append(places, place{z, z})
		}
	case types.LocationTypeAvailabilityZoneId:
		for _, z := range zonesOf(c.Name) {
			places = append(places, place{zoneID(z), z})
		}
	default:
		return nil, fault("InvalidParameterValue", "The location type '%s' is invalid", in.LocationType)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	kind := in.LocationType
	if kind == "" {
		kind = types.LocationTypeRegion
	}
	var all []types.InstanceTypeOffering
	for _, t := range instanceTypes {
		for _, p := range places {
			if !t.offered(p.zone) {
				continue
			}
			ok, err := (&resource{}).matches(in.Filters, func(name string) ([]string, bool) {
				v := map[string]string{"location": p.name, "instance-type": t.name}[name]
				return []string{v}, v != ""
			})
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, types.InstanceTypeOffering{InstanceType: types.InstanceType(t.name), Location: aws.String(p.name), LocationType: kind})
			}
		}
	}
	all, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeInstanceTypeOfferingsOutput{InstanceTypeOfferings: all, NextToken: next}, err
}

func init() {
	on(ec2Service, "DescribeInstanceTypes", (*Call).describeInstanceTypes)
	on(ec2Service, "DescribeInstanceTypeOfferings", (*Call).describeOfferings)
}
