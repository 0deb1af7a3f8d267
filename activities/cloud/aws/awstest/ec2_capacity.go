package awstest

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Quotas of the compute half, names for Options.Quotas:
//
//	vpcs, subnets, addresses  per region, and per VPC (5, 200, 5)
//	vcpus                     running virtual CPUs of the standard types per region; 1152, as EC2's guide had it;
//	                          new accounts have 5 (https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html)
//	capacity:TYPE             how many instances of a type each zone has room for; no limit unless given
//	capacity:TYPE:ZONE        the same for one zone
func (c *Cloud) quota(name string, standard int) int {
	if n, ok := c.Quotas[name]; ok {
		return n
	}
	return standard
}

// capacityReservation keeps room for instances of a type in a zone
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-capacity-reservations.html).
type capacityReservation struct {
	*resource
	kind     instanceType
	zone     string
	total    int
	targeted bool // only instances that name it use it
	end      time.Time
	platform types.CapacityReservationInstancePlatform
	canceled bool
}

func (r *capacityReservation) state(now time.Time) types.CapacityReservationState {
	switch {
	case r.canceled:
		return types.CapacityReservationStateCancelled
	case !r.end.IsZero() && now.After(r.end):
		return types.CapacityReservationStateExpired
	}
	return types.CapacityReservationStateActive
}

// inReservation counts the instances that use a reservation.
func (s *computeState) inReservation(r *capacityReservation) (n int) {
	for _, i := range s.instances {
		if i.reservation == r && i.takesRoom() {
			n++
		}
	}
	return n
}

// unreserved counts the room for instances of a type that a zone has left beside all reservations.
func (c *Call) unreserved(s *computeState, t instanceType, zone string) int {
	free := c.quota("capacity:"+t.name+":"+zone, c.quota("capacity:"+t.name, 1<<30))
	for _, i := range s.instances {
		inside := i.reservation != nil && i.reservation.state(c.Now) == types.CapacityReservationStateActive
		if i.kind == t && i.placement == zone && i.takesRoom() && !inside {
			free--
		}
	}
	for _, r := range s.reservations {
		if r.kind == t && r.zone == zone && r.state(c.Now) == types.CapacityReservationStateActive {
			free -= r.total
		}
	}
	return free
}

// room finds room for one more instance of a type in a zone: in a capacity reservation, open or the one that is
// named ("none" = in none), or beside all reservations. There is none: InsufficientInstanceCapacity, which is
// HTTP 500 (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html).
func (c *Call) room(s *computeState, t instanceType, zone, named string) (*capacityReservation, error) {
	for _, r := range byID(s.reservations) {
		if r.kind != t || r.zone != zone || r.state(c.Now) != types.CapacityReservationStateActive {
			continue
		}
		if s.inReservation(r) < r.total && (named == r.ID || named == "" && !r.targeted) {
			return r, nil
		}
	}
	if named != "" && named != "none" {
		return nil, fault("ReservationCapacityExceeded", "The requested reservation does not have sufficient compatible and available capacity for this request.")
	}
	if c.unreserved(s, t, zone) < 1 {
		return nil, noCapacity(t, zone)
	}
	return nil, nil
}

func noCapacity(t instanceType, zone string) *Error {
	e := fault("InsufficientInstanceCapacity", "We currently do not have sufficient %s capacity in the Availability Zone you requested (%s). Our system will be working on provisioning additional capacity.", t.name, zone)
	e.Status = 500
	return e
}

// checkVCPUs refuses what goes beyond the quota of running virtual CPUs.
func (c *Call) checkVCPUs(s *computeState, more int32) error {
	limit, used := c.quota("vcpus", 1152), more
	for _, i := range s.instances {
		if i.takesRoom() {
			used += i.kind.vcpus
		}
	}
	if int(used) > limit {
		return fault("VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit of %d allows for the instance bucket that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.", limit)
	}
	return nil
}

func (c *Call) createReservation(in *ec2.CreateCapacityReservationInput) (*ec2.CreateCapacityReservationOutput, error) {
	s := c.compute()
	id, err := c.once(in.ClientToken, in, func() (string, error) {
		t, ok := findType(aws.ToString(in.InstanceType))
		if !ok {
			return "", fault("InvalidParameterValue", "Invalid instance type: %s", aws.ToString(in.InstanceType))
		}
		if in.AvailabilityZone == nil && in.AvailabilityZoneId == nil {
			return "", fault("MissingParameter", "The request must contain the parameter AvailabilityZone or AvailabilityZoneId")
		}
		zone, err := c.zone(in.AvailabilityZone, in.AvailabilityZoneId)
		if err != nil {
			return "", err
		}
		if !t.offered(zone) {
			return "", unsupportedIn(t, zone, c.Name)
		}
		n := int(aws.ToInt32(in.InstanceCount))
		if n < 1 || n > 1000 {
			return "", fault("InvalidParameterValue", "Invalid value '%d' for instanceCount", n)
		}
		if err := dryRun(in.DryRun); err != nil {
			return "", err
		}
		if err := c.checkVCPUs(s, t.vcpus*int32(n)); err != nil {
			return "", err
		}
		if c.unreserved(s, t, zone) < n {
			return "", noCapacity(t, zone)
		}
		r := &capacityReservation{
			resource: c.newResource(types.ResourceTypeCapacityReservation, "cr", in.TagSpecifications), kind: t, zone: zone, total: n,
			targeted: in.InstanceMatchCriteria == types.InstanceMatchCriteriaTargeted, end: aws.ToTime(in.EndDate), platform: in.InstancePlatform,
		}
		s.reservations[r.ID] = r
		return r.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return &ec2.CreateCapacityReservationOutput{CapacityReservation: new(c.showReservation(s.reservations[id]))}, nil
}

func (c *Call) showReservation(r *capacityReservation) types.CapacityReservation {
	match, ends := types.InstanceMatchCriteriaOpen, types.EndDateTypeUnlimited
	if r.targeted {
		match = types.InstanceMatchCriteriaTargeted
	}
	out := types.CapacityReservation{
		CapacityReservationId: &r.ID, InstanceType: &r.kind.name, AvailabilityZone: &r.zone, AvailabilityZoneId: aws.String(zoneID(r.zone)), OwnerId: &c.Account,
		TotalInstanceCount: aws.Int32(int32(r.total)), AvailableInstanceCount: aws.Int32(int32(r.total - c.compute().inReservation(r))),
		State: r.state(c.Now), InstancePlatform: r.platform, Tenancy: types.CapacityReservationTenancyDefault, CreateDate: &r.Created, StartDate: &r.Created, Tags: r.tags(),
	}
	if !r.end.IsZero() {
		out.EndDate, ends = &r.end, types.EndDateTypeLimited
	}
	out.InstanceMatchCriteria, out.EndDateType = match, ends
	return out
}

func (c *Call) describeReservations(in *ec2.DescribeCapacityReservationsInput) (*ec2.DescribeCapacityReservationsOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	all, err := selected(c, c.compute().reservations, in.CapacityReservationIds, "InvalidCapacityReservationId.NotFound", in.Filters, func(r *capacityReservation, name string) ([]string, bool) {
		v := map[string]string{
			"instance-type": r.kind.name, "availability-zone": r.zone, "state": string(r.state(c.Now)), "owner-id": c.Account,
			"instance-match-criteria": string(c.showReservation(r).InstanceMatchCriteria), "instance-platform": string(r.platform), "tenancy": "default",
		}[name]
		return []string{v}, v != ""
	})
	if err != nil {
		return nil, err
	}
	all, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeCapacityReservationsOutput{CapacityReservations: each(all, c.showReservation), NextToken: next}, err
}

func (c *Call) cancelReservation(in *ec2.CancelCapacityReservationInput) (*ec2.CancelCapacityReservationOutput, error) {
	r := c.compute().reservations[aws.ToString(in.CapacityReservationId)]
	if r == nil {
		return nil, fault("InvalidCapacityReservationId.NotFound", "The capacity reservation '%s' was not found", aws.ToString(in.CapacityReservationId))
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	if state := r.state(c.Now); state != types.CapacityReservationStateActive {
		return nil, fault("InvalidCapacityReservationState", "The capacity reservation '%s' is %s", r.ID, state)
	}
	r.canceled = true
	return &ec2.CancelCapacityReservationOutput{Return: aws.Bool(true)}, nil
}

// describeAccountAttributes answers with the attributes of
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeAccountAttributes.html.
func (c *Call) describeAccountAttributes(in *ec2.DescribeAccountAttributesInput) (*ec2.DescribeAccountAttributesOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	defaultVPC := "none"
	if v := c.compute().defaultVPC(); v != nil {
		defaultVPC = v.ID
	}
	addresses := strconv.Itoa(c.quota("addresses", 5))
	values := map[string]string{
		"supported-platforms": "VPC", "default-vpc": defaultVPC, "max-instances": "20",
		"vpc-max-security-groups-per-interface": "5", "max-elastic-ips": addresses, "vpc-max-elastic-ips": addresses,
	}
	out := &ec2.DescribeAccountAttributesOutput{}
	for _, name := range sortedKeys(values) {
		if len(in.AttributeNames) == 0 || slices.Contains(in.AttributeNames, types.AccountAttributeName(name)) {
			out.AccountAttributes = append(out.AccountAttributes, types.AccountAttribute{
				AttributeName: aws.String(name), AttributeValues: []types.AccountAttributeValue{{AttributeValue: aws.String(values[name])}},
			})
		}
	}
	return out, nil
}

// unsupportedIn says that a zone does not offer a type.
func unsupportedIn(t instanceType, zone, region string) *Error {
	zones := slices.DeleteFunc(zonesOf(region), func(z string) bool { return !t.offered(z) })
	return fault("Unsupported", "Your requested instance type (%s) is not supported in your requested Availability Zone (%s). Please retry your request by not specifying an Availability Zone or choosing %s.", t.name, zone, strings.Join(zones, ", "))
}

func init() {
	on(ec2Service, "CreateCapacityReservation", (*Call).createReservation)
	on(ec2Service, "DescribeCapacityReservations", (*Call).describeReservations)
	on(ec2Service, "CancelCapacityReservation", (*Call).cancelReservation)
	on(ec2Service, "DescribeAccountAttributes", (*Call).describeAccountAttributes)
}
