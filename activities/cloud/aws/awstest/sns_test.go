package awstest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
)

func TestMessagesAreKept(t *testing.T) {
	t.Parallel()
	c := New(t, Options{PageSize: 3})
	client := sns.NewFromConfig(sdk(c, "eu-west-1", "key"))
	for i := range 7 {
		must(client.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String(fmt.Sprint("topic-", i)), Attributes: map[string]string{"DisplayName": "x"}}))(t)
	}
	topic := must(client.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("topic-0")}))(t).TopicArn
	n := 0
	for pages := sns.NewListTopicsPaginator(client, &sns.ListTopicsInput{}); pages.HasMorePages(); {
		n += len(must(pages.NextPage(t.Context()))(t).Topics)
	}
	if n != 7 {
		t.Errorf("%d topics are listed", n)
	}
	must(client.Publish(t.Context(), &sns.PublishInput{TopicArn: topic, Subject: aws.String("RPO"), Message: aws.String("is <missed> & late"),
		MessageAttributes: map[string]types.MessageAttributeValue{"plan": {DataType: aws.String("String"), StringValue: aws.String("shop")}}}))(t)
	got := c.Messages(*topic)
	if len(got) != 1 || got[0].Subject != "RPO" || got[0].Text != "is <missed> & late" || got[0].Attributes["plan"] != "shop" {
		t.Errorf("the messages are %+v", got)
	}
	_, err := client.Publish(t.Context(), &sns.PublishInput{TopicArn: aws.String(*topic + "x"), Message: aws.String("x")})
	wantCode(t, err, "NotFound")
	_, err = client.Publish(t.Context(), &sns.PublishInput{TopicArn: topic, Message: aws.String(strings.Repeat("x", maxMessage+1))})
	wantCode(t, err, "InvalidParameter")
}
