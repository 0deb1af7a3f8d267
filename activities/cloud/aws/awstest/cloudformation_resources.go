package awstest

import (
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// stackKind makes and deletes resources of a type through the service that has them.
type stackKind struct {
	resource   types.ResourceType
	properties []string
	make       func(c *Call, p properties, tags []types.TagSpecification) (id string, attributes map[string]string, err error)
	remove     func(c *Call, id string) error
}

// properties are those of a resource, resolved.
type properties map[string]any

func (p properties) text(name string) *string {
	v, ok := p[name]
	if !ok {
		return nil
	}
	return aws.String(fmt.Sprint(v))
}

// tags are those of the property Tags.
func (p properties) tags() map[string]string {
	out := map[string]string{}
	list, _ := p["Tags"].([]any)
	for _, e := range list {
		if t, ok := e.(map[string]any); ok {
			out[fmt.Sprint(t["Key"])] = fmt.Sprint(t["Value"])
		}
	}
	return out
}

// stackKinds are the types of resources that the double has, with their properties
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_EC2.html).
var stackKinds map[string]stackKind

func init() {
	stackKinds = map[string]stackKind{
		"AWS::EC2::VPC": {types.ResourceTypeVpc, []string{"CidrBlock", "EnableDnsSupport", "EnableDnsHostnames"},
			func(c *Call, p properties, tags []types.TagSpecification) (string, map[string]string, error) {
				out, err := c.createVpc(&ec2.CreateVpcInput{CidrBlock: p.text("CidrBlock"), TagSpecifications: tags})
				if err != nil {
					return "", nil, err
				}
				id := *out.Vpc.VpcId
				return id, map[string]string{"VpcId": id, "CidrBlock": *out.Vpc.CidrBlock, "DefaultSecurityGroup": c.compute().defaultGroup(c.compute().vpcs[id]).ID}, nil
			},
			func(c *Call, id string) error {
				_, err := c.deleteVpc(&ec2.DeleteVpcInput{VpcId: &id})
				return err
			}},
		"AWS::EC2::Subnet": {types.ResourceTypeSubnet, []string{"VpcId", "CidrBlock", "AvailabilityZone"},
			func(c *Call, p properties, tags []types.TagSpecification) (string, map[string]string, error) {
				out, err := c.createSubnet(&ec2.CreateSubnetInput{VpcId: p.text("VpcId"), CidrBlock: p.text("CidrBlock"), AvailabilityZone: p.text("AvailabilityZone"), TagSpecifications: tags})
				if err != nil {
					return "", nil, err
				}
				id := *out.Subnet.SubnetId
				return id, map[string]string{"SubnetId": id, "AvailabilityZone": *out.Subnet.AvailabilityZone, "CidrBlock": *out.Subnet.CidrBlock, "VpcId": *out.Subnet.VpcId}, nil
			},
			func(c *Call, id string) error {
				_, err := c.deleteSubnet(&ec2.DeleteSubnetInput{SubnetId: &id})
				return err
			}},
		"AWS::EC2::SecurityGroup": {types.ResourceTypeSecurityGroup, []string{"GroupName", "GroupDescription", "VpcId", "SecurityGroupIngress"}, (*Call).stackSecurityGroup,
			func(c *Call, id string) error {
				_, err := c.deleteSecurityGroup(&ec2.DeleteSecurityGroupInput{GroupId: &id})
				return err
			}},
	}
}

// stackSecurityGroup makes a group with its rules; a name is made up where none is given.
func (c *Call) stackSecurityGroup(p properties, tags []types.TagSpecification) (string, map[string]string, error) {
	name := p.text("GroupName")
	if name == nil {
		name = aws.String(c.newID("stack"))
	}
	if p["GroupDescription"] == nil {
		return "", nil, fault("ValidationError", "Property validation failure: [The property {/GroupDescription} is required]")
	}
	out, err := c.createSecurityGroup(&ec2.CreateSecurityGroupInput{GroupName: name, Description: p.text("GroupDescription"), VpcId: p.text("VpcId"), TagSpecifications: tags})
	if err != nil {
		return "", nil, err
	}
	id := *out.GroupId
	rules, _ := p["SecurityGroupIngress"].([]any)
	var permissions []types.IpPermission
	for _, r := range rules {
		rule, _ := r.(map[string]any)
		x := types.IpPermission{IpProtocol: properties(rule).text("IpProtocol")}
		for property, to := range map[string]**int32{"FromPort": &x.FromPort, "ToPort": &x.ToPort} {
			if text := properties(rule).text(property); text != nil {
				n, err := strconv.ParseInt(*text, 10, 32)
				if err != nil {
					return id, nil, fault("ValidationError", "%s is no port", *text)
				}
				*to = aws.Int32(int32(n))
			}
		}
		if cidr := properties(rule).text("CidrIp"); cidr != nil {
			x.IpRanges = []types.IpRange{{CidrIp: cidr}}
		}
		permissions = append(permissions, x)
	}
	if len(permissions) > 0 {
		if _, err := c.authorizeIngress(&ec2.AuthorizeSecurityGroupIngressInput{GroupId: &id, IpPermissions: permissions}); err != nil {
			return id, nil, err
		}
	}
	g := c.compute().groups[id]
	return id, map[string]string{"GroupId": id, "GroupName": g.name, "VpcId": g.vpc.ID}, nil
}
