package awstest

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteTags.html
func TestTagsAreDeletedByKeyByValueOrAll(t *testing.T) {
	t.Parallel()
	client := clients(t, New(t, Options{}), "eu-central-1").ec2
	tag := func(key, value string) types.Tag { return types.Tag{Key: &key, Value: &value} }
	made, err := client.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16"), TagSpecifications: []types.TagSpecification{
		{ResourceType: types.ResourceTypeVpc, Tags: []types.Tag{tag("a", "1"), tag("b", "2"), tag("c", "3"), tag("d", "4")}}}})
	require.NoError(t, err)
	for _, step := range []struct {
		drop []types.Tag
		left int
	}{
		{[]types.Tag{{Key: aws.String("a")}}, 3},
		{[]types.Tag{tag("b", "another"), tag("c", "3")}, 2},
		{nil, 0},
	} {
		_, err := client.DeleteTags(t.Context(), &ec2.DeleteTagsInput{Resources: []string{*made.Vpc.VpcId}, Tags: step.drop})
		require.NoError(t, err)
		seen, err := client.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{VpcIds: []string{*made.Vpc.VpcId}})
		require.NoError(t, err)
		require.Len(t, seen.Vpcs[0].Tags, step.left)
	}
}
