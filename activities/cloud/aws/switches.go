package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"lifeboat/activities/cloud"
)

// Switches that need no control plane when it counts ("standby takes over primary",
// https://aws.amazon.com/blogs/networking-and-content-delivery/creating-disaster-recovery-mechanisms-using-amazon-route-53/).
//
// The name has a PRIMARY and a SECONDARY failover record. The health check of the primary asks S3 of the
// recovery region, where the site's bucket is, for an object, and is inverted: while there is no object it is
// healthy. To put the object is to switch to the secondary: health checkers in many regions see it and the name
// servers follow, both parts of Route 53's data plane. An outage of the recovery region switches nothing.
//
// The checkers do not sign their requests. So objects below lifeboat/switches/ have to be readable for everybody
// (they hold a name and a time, and no name tells what else is in the bucket):
//
//	aws s3api put-public-access-block --bucket BUCKET --public-access-block-configuration \
//	  BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=false,RestrictPublicBuckets=false
//	aws s3api put-bucket-policy --bucket BUCKET --policy '{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
//	  "Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::BUCKET/lifeboat/switches/*"}]}'
//
// PrepareSwitch tries whether that is so. Traffic follows a flip after three checks of 10 s, and the TTL
// of the records.

const (
	preparedPrefix  = "lifeboat/prepared/"        // what PrepareSwitch did, by name; not for everybody
	readableKey     = switchPrefix + "-/readable" // shows that objects can be read; no name has a slash
	checkInterval   = 10                          // seconds, the shorter of the two that there are
	checkThreshold  = 3                           // answers in a row that turn the check
	checkPathMax    = 255                         // bytes, API_HealthCheckConfig.html
	primarySetID    = "lifeboat-primary"
	secondarySetID  = "lifeboat-secondary"
	readableTimeout = 10 * time.Second
)

const mendReadable = `let everybody read the objects below lifeboat/switches/ of the bucket: switch BlockPublicPolicy off, and allow "s3:GetObject" on arn:aws:s3:::%s/lifeboat/switches/* to "*" in the bucket policy`

// preparedSwitch is what is known of a switch without the control plane.
type preparedSwitch struct {
	Zone      string       `json:"zone"`
	Check     string       `json:"check"` // identifier of the health check
	Primary   cloud.Record `json:"primary"`
	Secondary cloud.Record `json:"secondary"`
	Removal   string       `json:"removal,omitempty"` // the change that replaced the pair, while the rest is removed
}

// PrepareSwitch makes the health check and the pair of records. A new inverted check counts as unhealthy until
// enough checkers have asked
// (https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/health-checks-creating-values.html): until then it is
// NotReady, and the records stay as they are.
func (p *Provider) PrepareSwitch(ctx context.Context, zone, token string, primary, secondary cloud.Record) (cloud.Change, error) {
	const op = "PrepareSwitch"
	if err := cloud.CheckToken(op, cloud.KindRecord, token); err != nil {
		return cloud.Change{}, err
	}
	z, err := p.hostedZone(ctx, op, zone)
	if err != nil {
		return cloud.Change{}, err
	}
	sets, err := switchSets(op, z, primary, secondary)
	if err != nil {
		return cloud.Change{}, err
	}
	name := awssdk.ToString(sets[0].Name)
	if err := p.checkReadable(ctx, op); err != nil {
		return cloud.Change{}, err
	}
	changes, check, err := p.giveWay(ctx, op, z, sets)
	if err != nil {
		return cloud.Change{}, err
	}
	check, err = p.switchCheck(ctx, op, name, token, check)
	if err != nil {
		return cloud.Change{}, err
	}
	sets[0].HealthCheckId = &check
	for _, s := range sets {
		changes = append(changes, types.Change{Action: types.ChangeActionUpsert, ResourceRecordSet: s})
	}
	// Known before it is true: a switch that is not known could not be flipped.
	if err := p.putPrepared(ctx, op, name, preparedSwitch{Zone: zone, Check: check, Primary: primary, Secondary: secondary}); err != nil {
		return cloud.Change{}, err
	}
	change, err := p.changeRecords(ctx, op, z, token, changes)
	if err != nil {
		return cloud.Change{}, err
	}
	return change, p.setThreshold(ctx, op, check)
}

// switchSets makes the pair of record sets, without their health check.
func switchSets(op string, z hostedZone, primary, secondary cloud.Record) ([]*types.ResourceRecordSet, error) {
	resource := "switch " + primary.Name
	switch {
	case plainName(primary.Name) != plainName(secondary.Name) || !strings.EqualFold(primary.Type, secondary.Type) || primary.TTL != secondary.TTL:
		return nil, invalid(op, resource, "the two records differ in name, type or TTL", "give both the same")
	case primary.SetID != "" || secondary.SetID != "" || primary.Weight != nil || secondary.Weight != nil:
		return nil, invalid(op, resource, "the records of a switch have no weights", "leave weight and set identifier out")
	}
	var sets []*types.ResourceRecordSet
	for i, r := range []cloud.Record{primary, secondary} {
		s, err := recordSet(op, z, r)
		if err != nil {
			return nil, err
		}
		s.SetIdentifier = awssdk.String([]string{primarySetID, secondarySetID}[i])
		s.Failover = []types.ResourceRecordSetFailover{types.ResourceRecordSetFailoverPrimary, types.ResourceRecordSetFailoverSecondary}[i]
		sets = append(sets, s)
	}
	return sets, nil
}

// giveWay finds what stands where the pair is to stand: a simple record is deleted with the same batch, of an
// earlier pair the health check is used again.
func (p *Provider) giveWay(ctx context.Context, op string, z hostedZone, sets []*types.ResourceRecordSet) (changes []types.Change, check string, err error) {
	there, err := p.recordSets(ctx, op, z, awssdk.ToString(sets[0].Name))
	if err != nil {
		return nil, "", err
	}
	for i, s := range there {
		id := awssdk.ToString(s.SetIdentifier)
		switch {
		case s.Type != sets[0].Type:
		case id == "":
			changes = append(changes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: &there[i]})
		case id == primarySetID:
			check = awssdk.ToString(s.HealthCheckId)
		case id != secondarySetID:
			return nil, "", invalid(op, "switch "+plainName(*sets[0].Name), "the name has a record set "+id+" that answers by other rules",
				"delete it first, or keep switching by it")
		}
	}
	return changes, check, nil
}

// endpoint is where health checkers ask for an object: the public endpoint of S3 in the site's region, with
// the bucket in the path, so that any bucket's name fits the certificate.
func (p *Provider) endpoint(ctx context.Context, op, key string) (*url.URL, error) {
	if _, _, err := p.bucket(op); err != nil {
		return nil, err
	}
	at, err := s3.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, s3.EndpointParameters{Region: &p.site.Region,
		Bucket: &p.site.Bucket, ForcePathStyle: awssdk.Bool(true)})
	if err != nil {
		return nil, invalid(op, "bucket "+p.site.Bucket, "has no endpoint in region "+p.site.Region+": "+clean(err.Error()), "correct bucket or region of the site")
	}
	u := at.URI
	u.Path = strings.TrimSuffix(u.Path, "/") + "/" + key
	return &u, nil
}

// checkReadable tries whether everybody can read the objects of switches.
func (p *Provider) checkReadable(ctx context.Context, op string) error {
	at, err := p.endpoint(ctx, op, readableKey)
	if err != nil {
		return err
	}
	if _, err := p.putObject(ctx, op, object{key: readableKey, data: []byte("Health checks can read this.\n")}); err != nil && cloud.CodeOf(err) != cloud.Conflict {
		return err
	}
	host := at.Host
	if base := awssdk.ToString(p.config.BaseEndpoint); base != "" { // an emulator has the names of S3, not its addresses
		to, err := url.Parse(base)
		if err != nil {
			return invalid(op, "site "+p.site.Name, "the endpoint is no URL", "correct AWS_ENDPOINT_URL")
		}
		at.Scheme, at.Host = to.Scheme, to.Host
	}
	ctx, cancel := context.WithTimeout(ctx, readableTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	request.Host = host
	client := p.config.HTTPClient
	if client == nil {
		client = http.DefaultClient
	}
	answer, err := client.Do(request)
	if err != nil {
		return awsError(op, "bucket "+p.site.Bucket, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return cloud.E(cloud.Denied, op, "bucket "+p.site.Bucket,
			fmt.Sprintf("health checks cannot read the objects of switches: the answer to a request without signature is HTTP %d", answer.StatusCode),
			fmt.Sprintf(mendReadable, p.site.Bucket), nil)
	}
	return nil
}

func switchKey(name string) string   { return switchPrefix + keyOf(name) }
func preparedKey(name string) string { return preparedPrefix + keyOf(name) }

func (p *Provider) putPrepared(ctx context.Context, op, name string, s preparedSwitch) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	version := ""
	if there, err := p.getObject(ctx, op, preparedKey(name)); err == nil {
		version = there.version
	} else if !cloud.IsNotFound(err) {
		return err
	}
	_, err = p.putObject(ctx, op, object{key: preparedKey(name), version: version, data: data})
	return err
}

// prepared is what PrepareSwitch did for a name, NotFound when there is no switch.
func (p *Provider) prepared(ctx context.Context, op, name string) (s preparedSwitch, err error) {
	o, err := p.getObject(ctx, op, preparedKey(name))
	if cloud.IsNotFound(err) {
		return s, cloud.E(cloud.NotFound, op, "switch "+name, "was not prepared at site "+p.site.Name,
			"prepare it while Route 53's control plane answers; in a disaster change the records instead, if that still works", err)
	}
	if err == nil && json.Unmarshal(o.data, &s) != nil {
		err = cloud.E(cloud.Corrupt, op, "switch "+name, "what was prepared cannot be read", "prepare it again", nil)
	}
	return s, err
}

// flipped tells whether the object of a switch is there.
func (p *Provider) flipped(ctx context.Context, op, name string) (bool, error) {
	_, err := p.getObject(ctx, op, switchKey(name))
	return err == nil, cloud.IgnoreNotFound(err)
}

// FlipSwitch puts or deletes the object of a switch, and asks nothing but S3 in the site's region.
func (p *Provider) FlipSwitch(ctx context.Context, name, active string) error {
	const op = "FlipSwitch"
	name = plainName(name)
	if _, err := p.prepared(ctx, op, name); err != nil {
		return err
	}
	switch active {
	case cloud.SwitchPrimary:
		return p.deleteObject(ctx, op, switchKey(name), "")
	case cloud.SwitchSecondary:
		text := fmt.Sprintf("%s leads to the secondary since %s.\n", name, time.Now().UTC().Format(time.RFC3339))
		_, err := p.putObject(ctx, op, object{key: switchKey(name), data: []byte(text)})
		if cloud.CodeOf(err) == cloud.Conflict { // it is there
			return nil
		}
		return err
	}
	return invalid(op, "switch "+name, fmt.Sprintf("has no position %q", active), "say primary or secondary")
}

// ActiveSwitch tells which record the switch wants to be answered.
func (p *Provider) ActiveSwitch(ctx context.Context, name string) (string, error) {
	const op = "ActiveSwitch"
	name = plainName(name)
	if _, err := p.prepared(ctx, op, name); err != nil {
		return "", err
	}
	flipped, err := p.flipped(ctx, op, name)
	if flipped {
		return cloud.SwitchSecondary, err
	}
	return cloud.SwitchPrimary, err
}
