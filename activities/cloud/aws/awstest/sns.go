package awstest

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
)

// snsService is Amazon Simple Notification Service: https://docs.aws.amazon.com/sns/latest/api/
var snsService = serve("sns", queryWire{})

// snsState are the topics of an account in a region, by ARN.
type snsState struct{ topics map[string]*snsTopic }

type snsTopic struct{ messages []Message }

// Message is what was published to a topic.
type Message struct {
	ID, Subject, Text string
	Attributes        map[string]string // those with a text
	Time              time.Time
}

func snsOf(r *Region) *snsState {
	s := part[snsState](r)
	if s.topics == nil {
		s.topics = map[string]*snsTopic{}
	}
	return s
}

// Messages lists what was published to a topic, given by its ARN, oldest first.
func (c *Cloud) Messages(topic string) []Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.regions {
		if t := snsOf(r).topics[topic]; t != nil {
			return slices.Clone(t.messages)
		}
	}
	return nil
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// maxMessage is the size of a message in bytes, and maxSubject of a subject in characters (API_Publish.html).
const (
	maxMessage = 256 << 10
	maxSubject = 100
)

// publish keeps a message (API_Publish.html). Nobody is notified: the double has no subscriptions.
func publish(c *Call, in *sns.PublishInput) (*sns.PublishOutput, error) {
	arn := aws.ToString(in.TopicArn)
	if arn == "" {
		arn = aws.ToString(in.TargetArn)
	}
	t := snsOf(c.Region).topics[arn]
	switch text := aws.ToString(in.Message); {
	case arn == "":
		return nil, fault("InvalidParameter", "Invalid parameter: TopicArn or TargetArn Reason: no value for required parameter")
	case t == nil:
		return nil, &Error{Code: "NotFound", Message: "Topic does not exist", Status: 404}
	case text == "":
		return nil, fault("InvalidParameter", "Invalid parameter: Empty message")
	case len(text) > maxMessage:
		return nil, fault("InvalidParameter", "Invalid parameter: Message too long")
	case len([]rune(aws.ToString(in.Subject))) > maxSubject:
		return nil, fault("InvalidParameter", "Invalid parameter: Subject")
	}
	c.ids++
	m := Message{ID: fmt.Sprintf("00000000-0000-4000-9000-%012x", c.ids), Subject: aws.ToString(in.Subject), Text: *in.Message,
		Attributes: map[string]string{}, Time: c.Now}
	for k, v := range in.MessageAttributes {
		if v.StringValue != nil {
			m.Attributes[k] = *v.StringValue
		}
	}
	t.messages = append(t.messages, m)
	return &sns.PublishOutput{MessageId: aws.String(m.ID)}, nil
}

func init() {
	// A topic that is there already is given again (API_CreateTopic.html).
	on(snsService, "CreateTopic", func(c *Call, in *sns.CreateTopicInput) (*sns.CreateTopicOutput, error) {
		if !topicName.MatchString(aws.ToString(in.Name)) {
			return nil, fault("InvalidParameter", "Invalid parameter: Topic Name")
		}
		arn := "arn:aws:sns:" + c.Name + ":" + c.Region.Account + ":" + *in.Name
		if s := snsOf(c.Region); s.topics[arn] == nil {
			s.topics[arn] = &snsTopic{}
		}
		return &sns.CreateTopicOutput{TopicArn: aws.String(arn)}, nil
	})
	on(snsService, "Publish", publish)
	on(snsService, "ListTopics", func(c *Call, in *sns.ListTopicsInput) (*sns.ListTopicsOutput, error) {
		arns, next, err := page(c, sortedKeys(snsOf(c.Region).topics), aws.Int32(100), in.NextToken)
		out := &sns.ListTopicsOutput{NextToken: next}
		for _, a := range arns {
			out.Topics = append(out.Topics, types.Topic{TopicArn: aws.String(a)})
		}
		return out, err
	})
}
