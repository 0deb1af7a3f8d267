package awstest

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// cloudwatchService is Amazon CloudWatch, the part for metrics; its requests are signed for "monitoring":
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/
var cloudwatchService = serve("monitoring", cborWire{service: "GraniteServiceVersion20100801"})

// cloudwatchState are the metrics of an account in a region.
type cloudwatchState struct{ metrics map[string]*metric }

// metric is a namespace, a name and dimensions, with what was put.
type metric struct {
	namespace, name string
	dimensions      []types.Dimension
	samples         []sample
}

// sample is a set of values at a time.
type sample struct {
	at              time.Time
	unit            types.StandardUnit
	n, sum, lo, top float64
}

func cloudwatchOf(r *Region) *cloudwatchState {
	s := part[cloudwatchState](r)
	if s.metrics == nil {
		s.metrics = map[string]*metric{}
	}
	return s
}

// metricKey is what makes metrics different: the order of dimensions does not
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html).
func metricKey(namespace, name string, dimensions []types.Dimension) (string, []types.Dimension) {
	sorted := slices.SortedFunc(slices.Values(dimensions), func(a, b types.Dimension) int {
		return cmp.Compare(aws.ToString(a.Name), aws.ToString(b.Name))
	})
	key := namespace + "\x00" + name
	for _, d := range sorted {
		key += "\x00" + aws.ToString(d.Name) + "\x00" + aws.ToString(d.Value)
	}
	return key, sorted
}

// Limits of a request (API_PutMetricData.html).
const (
	maxData       = 1000
	maxDimensions = 30
)

// putMetricData keeps values (API_PutMetricData.html); all or none.
func putMetricData(c *Call, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
	namespace := aws.ToString(in.Namespace)
	switch {
	case namespace == "":
		return nil, fault("MissingParameter", "The parameter Namespace is required.")
	case strings.HasPrefix(namespace, "AWS/"):
		return nil, fault("InvalidParameterValue", "The value AWS/ for parameter Namespace is invalid.")
	case len(in.MetricData) > maxData:
		return nil, fault("InvalidParameterValue", "The collection MetricData must not have a size greater than %d.", maxData)
	}
	var all []sample
	for i := range in.MetricData {
		s, err := sampleOf(&in.MetricData[i], c.Now)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	state := cloudwatchOf(c.Region)
	for i, d := range in.MetricData {
		key, dimensions := metricKey(namespace, *d.MetricName, d.Dimensions)
		m := state.metrics[key]
		if m == nil {
			m = &metric{namespace: namespace, name: *d.MetricName, dimensions: dimensions}
			state.metrics[key] = m
		}
		m.samples = append(m.samples, all[i])
	}
	return &cloudwatch.PutMetricDataOutput{}, nil
}

// sampleOf checks a datum: it has a value, or values with counts, or a set of statistics (API_MetricDatum.html).
func sampleOf(d *types.MetricDatum, now time.Time) (sample, error) {
	s := sample{at: now, unit: d.Unit, lo: math.Inf(1), top: math.Inf(-1)}
	if d.Timestamp != nil {
		s.at = *d.Timestamp
	}
	given := 0
	for _, there := range []bool{d.Value != nil, d.Values != nil, d.StatisticValues != nil} {
		if there {
			given++
		}
	}
	switch {
	case aws.ToString(d.MetricName) == "":
		return s, fault("MissingParameter", "The parameter MetricData.member.1.MetricName is required.")
	case given != 1:
		return s, fault("InvalidParameterCombination", "Exactly one of Value, Values and StatisticValues belongs to a datum.")
	case len(d.Dimensions) > maxDimensions:
		return s, fault("InvalidParameterValue", "The collection MetricData.member.1.Dimensions must not have a size greater than %d.", maxDimensions)
	case s.at.Before(now.Add(-14*24*time.Hour)) || s.at.After(now.Add(2*time.Hour)):
		return s, fault("InvalidParameterValue", "The parameter MetricData.member.1.Timestamp must be between two weeks ago and two hours from now.")
	case d.Counts != nil && len(d.Counts) != len(d.Values):
		return s, fault("InvalidParameterValue", "The parameters MetricData.member.1.Values and Counts must have the same size.")
	}
	if set := d.StatisticValues; set != nil {
		s.n, s.sum, s.lo, s.top = aws.ToFloat64(set.SampleCount), aws.ToFloat64(set.Sum), aws.ToFloat64(set.Minimum), aws.ToFloat64(set.Maximum)
		return s, nil
	}
	values := d.Values
	if d.Value != nil {
		values = []float64{*d.Value}
	}
	for i, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return s, fault("InvalidParameterValue", "The value %v for parameter MetricData.member.1.Value is invalid.", v)
		}
		n := 1.0
		if d.Counts != nil {
			n = d.Counts[i]
		}
		s.n, s.sum, s.lo, s.top = s.n+n, s.sum+n*v, min(s.lo, v), max(s.top, v)
	}
	return s, nil
}

// periods adds up a metric's samples by the period they are in, start to end.
func (m *metric) periods(start, end time.Time, period time.Duration, unit types.StandardUnit) map[time.Time]sample {
	out := map[time.Time]sample{}
	if m == nil {
		return out
	}
	for _, s := range m.samples {
		if s.at.Before(start) || !s.at.Before(end) || (unit != "" && unit != s.unit) {
			continue
		}
		at := s.at.Truncate(period)
		if o, ok := out[at]; ok {
			s.n, s.sum, s.lo, s.top = s.n+o.n, s.sum+o.sum, min(s.lo, o.lo), max(s.top, o.top)
		}
		s.at = at
		out[at] = s
	}
	return out
}

// statistic is one figure of a period.
func (s sample) statistic(name string) (float64, bool) {
	switch types.Statistic(name) {
	case types.StatisticAverage:
		return s.sum / s.n, true
	case types.StatisticSum:
		return s.sum, true
	case types.StatisticMinimum:
		return s.lo, true
	case types.StatisticMaximum:
		return s.top, true
	case types.StatisticSampleCount:
		return s.n, true
	}
	return 0, false
}

// metricPeriod checks a period: a minute or a multiple, or some of less for high resolution
// (API_GetMetricStatistics.html).
func metricPeriod(seconds *int32) (time.Duration, error) {
	n := aws.ToInt32(seconds)
	if n <= 0 || (n%60 != 0 && n != 1 && n != 5 && n != 10 && n != 20 && n != 30) {
		return 0, fault("InvalidParameterValue", "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60.")
	}
	return time.Duration(n) * time.Second, nil
}

func getMetricStatistics(c *Call, in *cloudwatch.GetMetricStatisticsInput) (*cloudwatch.GetMetricStatisticsOutput, error) {
	period, err := metricPeriod(in.Period)
	if err != nil {
		return nil, err
	}
	if in.StartTime == nil || in.EndTime == nil || !in.StartTime.Before(*in.EndTime) {
		return nil, fault("InvalidParameterValue", "The parameter StartTime must be less than the parameter EndTime.")
	}
	if len(in.Statistics) == 0 {
		return nil, fault("InvalidParameterCombination", "At least one of the parameters Statistics and ExtendedStatistics must be specified.")
	}
	key, _ := metricKey(aws.ToString(in.Namespace), aws.ToString(in.MetricName), in.Dimensions)
	out := &cloudwatch.GetMetricStatisticsOutput{Label: in.MetricName, Datapoints: []types.Datapoint{}}
	for at, s := range cloudwatchOf(c.Region).metrics[key].periods(*in.StartTime, *in.EndTime, period, in.Unit) {
		p := types.Datapoint{Timestamp: aws.Time(at), Unit: cmp.Or(s.unit, types.StandardUnitNone)}
		for _, name := range in.Statistics {
			v, ok := s.statistic(string(name))
			if !ok {
				return nil, fault("InvalidParameterValue", "The value %s for parameter Statistics is invalid.", name)
			}
			*map[types.Statistic]**float64{types.StatisticAverage: &p.Average, types.StatisticSum: &p.Sum, types.StatisticMinimum: &p.Minimum,
				types.StatisticMaximum: &p.Maximum, types.StatisticSampleCount: &p.SampleCount}[name] = &v
		}
		out.Datapoints = append(out.Datapoints, p) // in no order, as the service says
	}
	return out, nil
}

// getMetricData answers queries of single metrics; it has no expressions (API_GetMetricData.html).
func getMetricData(c *Call, in *cloudwatch.GetMetricDataInput) (*cloudwatch.GetMetricDataOutput, error) {
	if in.StartTime == nil || in.EndTime == nil || !in.StartTime.Before(*in.EndTime) {
		return nil, fault("ValidationError", "The parameter StartTime must be less than the parameter EndTime.")
	}
	out := &cloudwatch.GetMetricDataOutput{MetricDataResults: []types.MetricDataResult{}}
	for _, q := range in.MetricDataQueries {
		if q.MetricStat == nil || q.MetricStat.Metric == nil {
			return nil, fault("ValidationError", "This double answers queries with MetricStat only.")
		}
		period, err := metricPeriod(q.MetricStat.Period)
		if err != nil {
			return nil, err
		}
		m := q.MetricStat.Metric
		key, _ := metricKey(aws.ToString(m.Namespace), aws.ToString(m.MetricName), m.Dimensions)
		r := types.MetricDataResult{Id: q.Id, Label: cmp.Or(q.Label, m.MetricName), StatusCode: types.StatusCodeComplete, Timestamps: []time.Time{}, Values: []float64{}}
		found := cloudwatchOf(c.Region).metrics[key].periods(*in.StartTime, *in.EndTime, period, q.MetricStat.Unit)
		times := slices.SortedFunc(maps.Keys(found), time.Time.Compare)
		if in.ScanBy != types.ScanByTimestampAscending {
			slices.Reverse(times) // the newest first is the default
		}
		for _, at := range times {
			v, ok := found[at].statistic(aws.ToString(q.MetricStat.Stat))
			if !ok {
				return nil, fault("ValidationError", "The value %s for parameter Stat is invalid.", aws.ToString(q.MetricStat.Stat))
			}
			r.Timestamps, r.Values = append(r.Timestamps, at), append(r.Values, v)
		}
		out.MetricDataResults = append(out.MetricDataResults, r)
	}
	return out, nil
}

func init() {
	on(cloudwatchService, "PutMetricData", putMetricData)
	on(cloudwatchService, "GetMetricStatistics", getMetricStatistics)
	on(cloudwatchService, "GetMetricData", getMetricData)
	on(cloudwatchService, "ListMetrics", func(c *Call, in *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
		all := slices.DeleteFunc(byID(cloudwatchOf(c.Region).metrics), func(m *metric) bool {
			return (in.Namespace != nil && *in.Namespace != m.namespace) || (in.MetricName != nil && *in.MetricName != m.name) ||
				slices.ContainsFunc(in.Dimensions, func(f types.DimensionFilter) bool {
					return !slices.ContainsFunc(m.dimensions, func(d types.Dimension) bool {
						return aws.ToString(d.Name) == aws.ToString(f.Name) && (f.Value == nil || *f.Value == aws.ToString(d.Value))
					})
				})
		})
		some, next, err := page(c, all, aws.Int32(500), in.NextToken)
		out := &cloudwatch.ListMetricsOutput{NextToken: next, Metrics: []types.Metric{}}
		for _, m := range some {
			out.Metrics = append(out.Metrics, types.Metric{Namespace: aws.String(m.namespace), MetricName: aws.String(m.name), Dimensions: m.dimensions})
		}
		return out, err
	})
}
