package aws

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"lifeboat/activities/cloud"
)

// switchCheck returns the health check of a switch: the one of an earlier pair of records when it still asks for
// the right object, else a new one, when its checkers have seen the switch as it stands.
func (p *Provider) switchCheck(ctx context.Context, op, name, token, earlier string) (string, error) {
	client, err := p.route53(op)
	if err != nil {
		return "", err
	}
	at, err := p.endpoint(ctx, op, switchKey(name))
	if err != nil {
		return "", err
	}
	if len(at.Path) > checkPathMax {
		return "", invalid(op, "switch "+name, "the name is too long for a health check", "use a shorter name, or a bucket with a shorter one")
	}
	resource := "health check of " + name
	want := &types.HealthCheckConfig{Type: types.HealthCheckTypeHttps, FullyQualifiedDomainName: awssdk.String(at.Hostname()), Port: awssdk.Int32(443),
		ResourcePath: awssdk.String(at.EscapedPath()), EnableSNI: awssdk.Bool(true), Inverted: awssdk.Bool(true),
		RequestInterval: awssdk.Int32(checkInterval), FailureThreshold: awssdk.Int32(1)}
	if earlier != "" {
		got, err := client.GetHealthCheck(ctx, &route53.GetHealthCheckInput{HealthCheckId: &earlier})
		if err == nil && asksFor(got.HealthCheck.HealthCheckConfig, want) {
			return earlier, nil
		}
		if err != nil && apiCode(err) != "NoSuchHealthCheck" {
			return "", awsError(op, resource, err)
		}
	}
	reference, err := hashOf([]string{token, name, at.String()})
	if err != nil {
		return "", err
	}
	made, err := client.CreateHealthCheck(ctx, &route53.CreateHealthCheckInput{CallerReference: awssdk.String("lifeboat-" + reference), HealthCheckConfig: want})
	if err != nil {
		return "", awsError(op, resource, err)
	}
	id := awssdk.ToString(made.HealthCheck.Id)
	_, err = client.ChangeTagsForResource(ctx, &route53.ChangeTagsForResourceInput{ResourceType: types.TagResourceTypeHealthcheck, ResourceId: &id,
		AddTags: []types.Tag{{Key: awssdk.String(tagName), Value: awssdk.String("lifeboat switch " + name)}, {Key: awssdk.String(cloud.TagToken), Value: &token}}})
	if err != nil {
		return "", awsError(op, resource, err)
	}
	return id, p.awaitCheckers(ctx, client, op, name, id)
}

// asksFor tells whether two checks look for the same thing in the same way.
func asksFor(a, b *types.HealthCheckConfig) bool {
	same := func(x, y any) bool { return reflect.DeepEqual(x, y) }
	return a != nil && a.Type == b.Type && same(a.FullyQualifiedDomainName, b.FullyQualifiedDomainName) && same(a.ResourcePath, b.ResourcePath) &&
		same(a.Port, b.Port) && awssdk.ToBool(a.Inverted) == awssdk.ToBool(b.Inverted) && !awssdk.ToBool(a.Disabled)
}

// awaitCheckers is NotReady until all checkers of a new check have found what is there: with a threshold of one
// their last answer is what they think.
func (p *Provider) awaitCheckers(ctx context.Context, client *route53.Client, op, name, id string) error {
	out, err := client.GetHealthCheckStatus(ctx, &route53.GetHealthCheckStatusInput{HealthCheckId: &id})
	if err != nil {
		return awsError(op, "health check of "+name, err)
	}
	flipped, err := p.flipped(ctx, op, name)
	if err != nil {
		return err
	}
	seen, want := 0, map[bool]string{true: "Success", false: "Failure"}[flipped]
	for _, o := range out.HealthCheckObservations {
		if o.StatusReport != nil && strings.HasPrefix(awssdk.ToString(o.StatusReport.Status), want) {
			seen++
		}
	}
	if seen == 0 || seen < len(out.HealthCheckObservations) {
		notReady := cloud.E(cloud.NotReady, op, "switch "+name, fmt.Sprintf("%d of %d health checkers have looked for its object so far", seen, len(out.HealthCheckObservations)),
			"wait a minute; the records are as they were", nil)
		notReady.RetryAfter = checkInterval * time.Second
		return notReady
	}
	return nil
}

// setThreshold makes a check that is in use patient: one lost answer of S3 turns nothing.
func (p *Provider) setThreshold(ctx context.Context, op, id string) error {
	client, err := p.route53(op)
	if err != nil {
		return err
	}
	got, err := client.GetHealthCheck(ctx, &route53.GetHealthCheckInput{HealthCheckId: &id})
	if err == nil && awssdk.ToInt32(got.HealthCheck.HealthCheckConfig.FailureThreshold) != checkThreshold {
		_, err = client.UpdateHealthCheck(ctx, &route53.UpdateHealthCheckInput{HealthCheckId: &id, FailureThreshold: awssdk.Int32(checkThreshold)})
	}
	return awsError(op, "health check "+id, err)
}
