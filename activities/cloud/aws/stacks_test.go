package aws

import (
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

const networkTemplate = `
Parameters:
  Range: {Type: String, Default: 10.9.0.0/16}
Resources:
  Web:
    Type: AWS::EC2::SecurityGroup
    DependsOn: Subnet
    Properties:
      GroupDescription: web
      VpcId: !Ref VPC
      SecurityGroupIngress: [{IpProtocol: tcp, FromPort: 80, ToPort: 80, CidrIp: 0.0.0.0/0}]
  Subnet:
    Type: AWS::EC2::Subnet
    Properties:
      VpcId: !GetAtt VPC.VpcId
      CidrBlock: 10.9.1.0/24
      AvailabilityZone: !Select [0, !GetAZs ""]
      Tags: [{Key: Name, Value: !Sub "${AWS::StackName}-a"}]
  VPC:
    Type: AWS::EC2::VPC
    Properties: {CidrBlock: !Ref Range}
Outputs:
  Network: {Value: !Ref Subnet}
  Group: {Value: !GetAtt Web.GroupId}
`

func (d *double) stackIs(p *Provider, id string, state cloud.State) cloud.Stack {
	d.t.Helper()
	return await(d.t, state, func() (cloud.Stack, error) { return p.Stack(d.t.Context(), id) }, func(s cloud.Stack) cloud.Resource { return s.Resource })
}

func (d *double) vpcCount(p *Provider) int {
	d.t.Helper()
	list, err := listAll(d.t.Context(), ec2.NewDescribeVpcsPaginator(p.ec2(), &ec2.DescribeVpcsInput{}), func(o *ec2.DescribeVpcsOutput) []types.Vpc { return o.Vpcs })
	require.NoError(d.t, err)
	return len(list)
}

func TestAStackMakesItsNetworkTellsDriftAndTakesItAwayAgain(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{PageSize: 2})
	p := d.home()
	before := d.vpcCount(p)
	in := cloud.CreateStack{Create: cloud.Create{Token: "stack", Name: "site", Tags: map[string]string{cloud.TagPlan: "shop"}}, Template: networkTemplate, Parameters: map[string]string{"Range": "10.9.0.0/20"}}
	s, err := p.StartCreateStack(t.Context(), in)
	require.NoError(t, err)
	again, err := p.StartCreateStack(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, s.ID, again.ID)
	s = d.stackIs(p, "site", cloud.Available)
	require.Equal(t, before+1, d.vpcCount(p))
	n, err := p.ec2().DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{SubnetIds: []string{s.Outputs["Network"]}})
	require.NoError(t, err)
	tags := tagMap(n.Subnets[0].Tags)
	require.Equal(t, "site-a", tags["Name"])
	require.Equal(t, "shop", tags[cloud.TagPlan])
	require.Equal(t, "Subnet", tags["aws:cloudformation:logical-id"])
	require.Equal(t, map[string]string{cloud.TagPlan: "shop", cloud.TagToken: "stack"}, s.Tags)

	drift := func() []string {
		id, err := p.StartDrift(t.Context(), s.ID)
		require.NoError(t, err)
		var found cloud.Drift
		require.Eventually(t, func() bool {
			found, err = p.Drift(t.Context(), s.ID, id)
			return err == nil && found.State == cloud.Available
		}, waitAtMost, waitStep)
		return found.Differences
	}
	require.Empty(t, drift())
	_, err = p.ec2().CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{s.Outputs["Network"]}, Tags: []types.Tag{{Key: awssdk.String("Name"), Value: awssdk.String("mine")}}})
	require.NoError(t, err)
	_, err = p.ec2().DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: awssdk.String(s.Outputs["Group"])})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"Subnet (AWS::EC2::Subnet " + s.Outputs["Network"] + "): /Tags/0/Value is mine instead of site-a",
		"Web (AWS::EC2::SecurityGroup " + s.Outputs["Group"] + ") was deleted"}, drift())

	list, err := p.Stacks(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagPlan: "shop"}})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NoError(t, p.DeleteStack(t.Context(), s.ID))
	require.Eventually(t, func() bool { return cloud.IsNotFound(p.DeleteStack(t.Context(), s.ID)) }, waitAtMost, waitStep)
	require.Equal(t, before, d.vpcCount(p))
	_, err = p.Stack(t.Context(), "site")
	require.True(t, cloud.IsNotFound(err), "%v", err)
}

func TestAStackThatFailsIsRolledBackAndSaysWhatFailedFirst(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{PageSize: 1})
	p := d.home()
	before := d.vpcCount(p)
	in := cloud.CreateStack{Create: cloud.Create{Token: "stack", Name: "bad"}, Template: strings.ReplaceAll(networkTemplate, "10.9.1.0/24", "10.8.1.0/24")}
	_, err := p.StartCreateStack(t.Context(), in)
	require.NoError(t, err)
	s := d.stackIs(p, "bad", cloud.Failing)
	require.Equal(t, `ROLLBACK_COMPLETE: Subnet (AWS::EC2::Subnet): Resource handler returned message: "The CIDR '10.8.1.0/24' is invalid."`, s.Message)
	require.Equal(t, before, d.vpcCount(p))
	_, err = p.StartDrift(t.Context(), s.ID)
	require.Equal(t, cloud.Conflict, cloud.CodeOf(err))
	in.Template = networkTemplate
	_, err = p.StartCreateStack(t.Context(), in)
	require.Equal(t, cloud.TokenMismatch, cloud.CodeOf(err))
	in.Token = "another"
	_, err = p.StartCreateStack(t.Context(), in)
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "the name is taken")
	for _, bad := range []string{"", "Resources: {A: {Type: AWS::Mars::Base}}", `{"Resources": {"A": {"Type": "AWS::EC2::VPC", "Properties": {"Colour": "red"}}}}`} {
		_, err = p.StartCreateStack(t.Context(), cloud.CreateStack{Create: cloud.Create{Token: "t-" + digest(bad)}, Template: bad})
		require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), bad)
	}
}

func TestAStackWhoseNetworkIsUsedStays(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	s, err := p.StartCreateStack(t.Context(), cloud.CreateStack{Create: cloud.Create{Token: "stack"}, Template: networkTemplate})
	require.NoError(t, err)
	s = d.stackIs(p, s.ID, cloud.Available)
	i, err := p.ec2().CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: awssdk.String(s.Outputs["Network"])})
	require.NoError(t, err)
	require.NoError(t, p.DeleteStack(t.Context(), s.ID))
	require.Contains(t, d.stackIs(p, s.ID, cloud.Failing).Message, "DELETE_FAILED: Subnet")
	_, err = p.ec2().DeleteNetworkInterface(t.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: i.NetworkInterface.NetworkInterfaceId})
	require.NoError(t, err)
	require.NoError(t, p.DeleteStack(t.Context(), s.ID))
	require.Eventually(t, func() bool { _, err := p.Stack(t.Context(), s.ID); return cloud.IsNotFound(err) }, waitAtMost, waitStep)
}
