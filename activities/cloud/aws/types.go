package aws

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
)

// machineType is what has to be known of an instance type.
type machineType struct {
	name          string
	cpu           int
	memory        int64 // bytes
	architectures []string
	current       bool // of a generation that is still sold
	bare          bool // a whole machine
	accelerated   bool // with graphics or other processors that cost
}

// defaultFamilies orders types of one size: first what is burstable and therefore cheap, then general purpose, compute
// and memory. A type of another family comes after them. There is no price list: prices differ by region and contract,
// and the API that tells them is in two regions only. The least that fits costs the least within a family, and these
// families are ordered by the list prices of their equal sizes.
var defaultFamilies = strings.Fields("t4g t3a t3 t2 m7g m6g m7a m6a m7i m6i m5a m5 c7g c6g c7a c6a c7i c6i c5 r7g r6g r7a r6a r7i r6i r5 m8g c8g r8g m4 c4 r4")

// machine describes an instance type.
func (p *Provider) machine(ctx context.Context, name string) (machineType, error) {
	p.mu.Lock()
	known, ok := p.types[name]
	p.mu.Unlock()
	if ok {
		return known, nil
	}
	out, err := p.ec2().DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{types.InstanceType(name)}})
	if apiCode(err) == "InvalidInstanceType" || err == nil && len(out.InstanceTypes) == 0 {
		return machineType{}, invalid("InstanceType", "instance type "+name, "region "+p.site.Region+" has no such type", "choose a type that the region offers")
	}
	if err != nil {
		return machineType{}, awsError("InstanceType", "instance type "+name, err)
	}
	m := machineTypeOf(out.InstanceTypes[0])
	p.mu.Lock()
	defer p.mu.Unlock()
	p.types[name] = m
	return m, nil
}

func machineTypeOf(t types.InstanceTypeInfo) machineType {
	m := machineType{name: string(t.InstanceType), current: awssdk.ToBool(t.CurrentGeneration), bare: awssdk.ToBool(t.BareMetal),
		accelerated: t.GpuInfo != nil || t.FpgaInfo != nil || t.InferenceAcceleratorInfo != nil || t.MediaAcceleratorInfo != nil || t.NeuronInfo != nil}
	if t.VCpuInfo != nil {
		m.cpu = int(awssdk.ToInt32(t.VCpuInfo.DefaultVCpus))
	}
	if t.MemoryInfo != nil {
		m.memory = awssdk.ToInt64(t.MemoryInfo.SizeInMiB) << 20
	}
	if t.ProcessorInfo != nil {
		for _, a := range t.ProcessorInfo.SupportedArchitectures {
			m.architectures = append(m.architectures, string(a))
		}
	}
	return m
}

// family is what stands before the dot of a type's name.
func (m machineType) family() string {
	f, _, _ := strings.Cut(m.name, ".")
	return f
}

// wanted is what a server needs of its type.
type wanted struct {
	cpu          int
	memory       int64
	architecture string
	families     []string
}

// choose gives the types that fit, the best first: the fewest CPUs, then the least memory, then the order of families.
func (w wanted) choose(all []machineType) []machineType {
	families := w.families
	if len(families) == 0 {
		families = defaultFamilies
	}
	rank := func(m machineType) int {
		if i := slices.Index(families, m.family()); i >= 0 {
			return i
		}
		return len(families)
	}
	var fit []machineType
	for _, m := range all {
		only := len(w.families) > 0 && rank(m) == len(families)
		if m.current && !m.bare && !m.accelerated && !only && m.cpu >= w.cpu && m.memory >= w.memory && slices.Contains(m.architectures, w.architecture) {
			fit = append(fit, m)
		}
	}
	slices.SortFunc(fit, func(a, b machineType) int {
		return cmp.Or(cmp.Compare(a.cpu, b.cpu), cmp.Compare(a.memory, b.memory), cmp.Compare(rank(a), rank(b)), cmp.Compare(a.name, b.name))
	})
	return fit
}

// fitting gives the types that the zone offers for what a server needs, the best first.
func (p *Provider) fitting(ctx context.Context, zone string, w wanted) ([]machineType, error) {
	offered, err := p.offered(ctx, zone)
	if err != nil {
		return nil, err
	}
	all, err := listAll(ctx, ec2.NewDescribeInstanceTypesPaginator(p.ec2(), &ec2.DescribeInstanceTypesInput{MaxResults: awssdk.Int32(100),
		Filters: []types.Filter{filter("processor-info.supported-architecture", w.architecture), filter("current-generation", "true"), filter("bare-metal", "false")}}),
		func(o *ec2.DescribeInstanceTypesOutput) []types.InstanceTypeInfo { return o.InstanceTypes })
	if err != nil {
		return nil, awsError("InstanceType", "instance types of "+zone, err)
	}
	var here []machineType
	for _, t := range all {
		if offered[string(t.InstanceType)] {
			here = append(here, machineTypeOf(t))
		}
	}
	if fit := w.choose(here); len(fit) > 0 {
		return fit, nil
	}
	return nil, invalid("InstanceType", "zone "+zone, fmt.Sprintf("it offers no type for %s with at least %d CPUs and %d MiB of memory", w.architecture, w.cpu, w.memory>>20),
		"ask for less, name the type, or use another zone")
}

// offered are the names of the types that a zone offers.
func (p *Provider) offered(ctx context.Context, zone string) (map[string]bool, error) {
	list, err := listAll(ctx, ec2.NewDescribeInstanceTypeOfferingsPaginator(p.ec2(), &ec2.DescribeInstanceTypeOfferingsInput{LocationType: types.LocationTypeAvailabilityZone,
		Filters: []types.Filter{filter("location", zone)}, MaxResults: awssdk.Int32(1000)}),
		func(o *ec2.DescribeInstanceTypeOfferingsOutput) []types.InstanceTypeOffering {
			return o.InstanceTypeOfferings
		})
	if err != nil {
		return nil, awsError("InstanceType", "instance types of "+zone, err)
	}
	names := map[string]bool{}
	for _, o := range list {
		names[string(o.InstanceType)] = true
	}
	return names, nil
}

// describeType fills in what the type of a server says. A type that is no longer known says nothing.
func (p *Provider) describeType(ctx context.Context, s *cloud.Server) error {
	if s.Type == "" {
		return nil
	}
	m, err := p.machine(ctx, s.Type)
	if err != nil {
		if cloud.CodeOf(err) == cloud.InvalidInput {
			return nil
		}
		return err
	}
	s.CPU, s.Memory = m.cpu, m.memory
	return nil
}
