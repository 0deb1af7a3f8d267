package aws

import (
	"context"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"lifeboat/activities/cloud"
)

// RemoveSwitch needs the control plane again. The health check goes when every name server has the simple record: until
// then they ask it. What PrepareSwitch wrote goes last, since it tells what is left to remove.
func (p *Provider) RemoveSwitch(ctx context.Context, name, token string) error {
	const op = "RemoveSwitch"
	name = plainName(name)
	if err := cloud.CheckToken(op, cloud.KindRecord, token); err != nil {
		return err
	}
	s, err := p.prepared(ctx, op, name)
	if err != nil {
		return err
	}
	if s.Removal == "" {
		if s.Removal, err = p.dissolve(ctx, op, name, token, s); err != nil {
			return err
		}
		if err := p.putPrepared(ctx, op, name, s); err != nil {
			return err
		}
	}
	change, err := p.Change(ctx, s.Removal)
	if cloud.IgnoreNotFound(err) != nil {
		return err
	}
	if err == nil && change.State != cloud.Available {
		return cloud.E(cloud.NotReady, op, "switch "+name, "its records are being replaced", "wait until every name server has the change", nil)
	}
	client, err := p.route53(op)
	if err != nil {
		return err
	}
	if _, err := client.DeleteHealthCheck(ctx, &route53.DeleteHealthCheckInput{HealthCheckId: &s.Check}); err != nil && apiCode(err) != "NoSuchHealthCheck" {
		return awsError(op, "health check "+s.Check, err)
	}
	for _, key := range []string{switchKey(name), preparedKey(name)} {
		if err := p.deleteObject(ctx, op, key, ""); err != nil {
			return err
		}
	}
	return nil
}

// dissolve replaces the pair of records by the active one, and returns the change. An earlier call may have done that
// whose answer was lost: then the record is written as it is, since no name server has a change before those that were
// made before it.
func (p *Provider) dissolve(ctx context.Context, op, name, token string, s preparedSwitch) (change string, err error) {
	z, err := p.hostedZone(ctx, op, s.Zone)
	if err != nil {
		return "", err
	}
	sets, err := p.recordSets(ctx, op, z, name)
	if err != nil {
		return "", err
	}
	var changes, as []types.Change
	for i, set := range sets {
		switch id := awssdk.ToString(set.SetIdentifier); {
		case !strings.EqualFold(string(set.Type), s.Primary.Type):
		case id == primarySetID || id == secondarySetID:
			changes = append(changes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: &sets[i]})
		case id == "":
			as = append(as, types.Change{Action: types.ChangeActionUpsert, ResourceRecordSet: &sets[i]})
		}
	}
	if len(changes) == 0 && len(as) == 0 {
		return doneChange, nil // a person has deleted them
	}
	if len(changes) > 0 {
		active := s.Primary
		flipped, err := p.flipped(ctx, op, name)
		if err != nil {
			return "", err
		}
		if flipped {
			active = s.Secondary
		}
		simple, err := recordSet(op, z, active)
		if err != nil {
			return "", err
		}
		as = append(changes, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: simple})
	}
	made, err := p.changeRecords(ctx, op, z, token, as)
	return made.ID, err
}
