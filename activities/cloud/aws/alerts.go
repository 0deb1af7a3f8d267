package aws

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"

	"lifeboat/activities/cloud"
)

const (
	// metricsNamespace is where CloudWatch shows measurements.
	metricsNamespace = "Lifeboat"
	// alertTopic is the name of the topic of alerts that name no channel.
	alertTopic = "lifeboat"
	kindAlert  = cloud.Kind("alert")
	// Limits: of PutMetricData and of Publish
	// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html,
	// https://docs.aws.amazon.com/sns/latest/api/API_Publish.html).
	metricsAtOnce    = 1000
	metricDimensions = 30
	subjectMax       = 100 // characters, ASCII
	alertMax         = 200 << 10
)

// PutMeasurements puts measurements into CloudWatch, labels as dimensions.
func (p *Provider) PutMeasurements(ctx context.Context, list []cloud.Measurement) error {
	const op = "PutMeasurements"
	for chunk := range slices.Chunk(list, metricsAtOnce) {
		data := make([]cwtypes.MetricDatum, 0, len(chunk))
		for _, m := range chunk {
			if m.Name == "" || len(m.Labels) > metricDimensions {
				return invalid(op, "measurement "+m.Name, "has no name, or more than 30 labels", "correct it")
			}
			d := cwtypes.MetricDatum{MetricName: awssdk.String(m.Name), Value: awssdk.Float64(m.Value), Unit: unitOf(m.Name)}
			if !m.Time.IsZero() { // else it is that of the arrival
				d.Timestamp = awssdk.Time(m.Time)
			}
			for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
				if m.Labels[k] != "" { // CloudWatch refuses empty ones
					d.Dimensions = append(d.Dimensions, cwtypes.Dimension{Name: awssdk.String(k), Value: awssdk.String(m.Labels[k])})
				}
			}
			data = append(data, d)
		}
		if _, err := p.cloudwatch().PutMetricData(ctx, &cloudwatch.PutMetricDataInput{Namespace: awssdk.String(metricsNamespace), MetricData: data}); err != nil {
			return awsError(op, "measurements of site "+p.site.Name, err)
		}
	}
	return nil
}

// unitOf reads the unit from the end of a measurement's name.
func unitOf(name string) cwtypes.StandardUnit {
	switch {
	case strings.HasSuffix(name, "_bytes_per_second"):
		return cwtypes.StandardUnitBytesSecond
	case strings.HasSuffix(name, "_seconds"):
		return cwtypes.StandardUnitSeconds
	case strings.HasSuffix(name, "_bytes"):
		return cwtypes.StandardUnitBytes
	case strings.HasSuffix(name, "_percent"):
		return cwtypes.StandardUnitPercent
	case strings.HasSuffix(name, "_total"), strings.HasSuffix(name, "_count"):
		return cwtypes.StandardUnitCount
	}
	return cwtypes.StandardUnitNone
}

// SendAlert publishes an alert to a topic of the site's region: Channel is its name or ARN, "lifeboat" when empty. A
// claim in the site's bucket keeps it from being sent twice; an attempt whose answer was lost is made again, so that of
// no alert and two it is two.
func (p *Provider) SendAlert(ctx context.Context, a cloud.Alert) error {
	const op = "SendAlert"
	resource := "alert " + a.Title
	if a.Title == "" && a.Text == "" {
		return invalid(op, resource, "is empty", "give it a title or a text")
	}
	hash, err := hashOf(a)
	if err != nil {
		return err
	}
	mine, found, err := p.findClaim(ctx, op, kindAlert, a.Token, hash)
	if err != nil || mine.ID != "" {
		return err
	}
	if !found {
		mine = claim{Token: a.Token, Hash: hash, At: time.Now().UTC()}
		if err := p.putClaim(ctx, op, kindAlert, &mine); err != nil {
			return err
		}
	}
	topic, err := p.topic(ctx, a.Channel)
	if err != nil {
		return err
	}
	text := cmp.Or(a.Text, a.Title)
	if len(text) > alertMax {
		text = strings.ToValidUTF8(text[:alertMax], "") + "…"
	}
	in := &sns.PublishInput{TopicArn: &topic, Message: &text, MessageAttributes: map[string]snstypes.MessageAttributeValue{}}
	if s := subject(a.Title); s != "" {
		in.Subject = &s
	}
	for k, v := range a.Labels {
		if v != "" {
			in.MessageAttributes[k] = snstypes.MessageAttributeValue{DataType: awssdk.String("String"), StringValue: awssdk.String(v)}
		}
	}
	out, err := p.sns().Publish(ctx, in)
	if err != nil {
		return awsError(op, resource, err)
	}
	mine.ID = cmp.Or(awssdk.ToString(out.MessageId), "sent")
	return p.putClaim(ctx, op, kindAlert, &mine)
}

// topic makes an ARN of the name of a topic.
func (p *Provider) topic(ctx context.Context, channel string) (string, error) {
	channel = cmp.Or(channel, alertTopic)
	if strings.HasPrefix(channel, "arn:") {
		return channel, nil
	}
	account, err := p.account(ctx)
	if err != nil {
		return "", err
	}
	return "arn:" + partitionOf(p.site.Region) + ":sns:" + p.site.Region + ":" + account + ":" + channel, nil
}

// partitionOf is the part of AWS that a region belongs to
// (https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html).
func partitionOf(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// subject is a title as SNS takes it: one line of up to 100 printable ASCII characters that begins with a letter or digit.
func subject(title string) string {
	s := strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < 0x20 || r > 0x7e:
			return '?'
		}
		return r
	}, title)
	s = strings.TrimLeftFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
	return strings.TrimSpace(s[:min(len(s), subjectMax)])
}
