package awstest

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go/encoding/cbor"
)

func TestMetricsAreAddedUpByPeriod(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	client := cloudwatch.NewFromConfig(sdk(c, "eu-west-1", "key"))
	minute := time.Now().Truncate(time.Minute).Add(-10 * time.Minute)
	dimensions := []types.Dimension{{Name: aws.String("server"), Value: aws.String("db")}, {Name: aws.String("plan"), Value: aws.String("shop")}}
	put := func(at time.Time, d types.MetricDatum) {
		d.MetricName, d.Timestamp, d.Dimensions, d.Unit = aws.String("Lag"), &at, dimensions, types.StandardUnitSeconds
		must(client.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("Lifeboat"), MetricData: []types.MetricDatum{d}}))(t)
	}
	put(minute, types.MetricDatum{Value: aws.Float64(-4)})
	put(minute.Add(30*time.Second), types.MetricDatum{Values: []float64{10, 20}, Counts: []float64{1, 2}})
	put(minute.Add(time.Minute), types.MetricDatum{StatisticValues: &types.StatisticSet{SampleCount: aws.Float64(2), Sum: aws.Float64(3), Minimum: aws.Float64(1), Maximum: aws.Float64(2)}})
	other := []types.Dimension{dimensions[1], dimensions[0]} // their order does not matter
	stats := must(client.GetMetricStatistics(t.Context(), &cloudwatch.GetMetricStatisticsInput{Namespace: aws.String("Lifeboat"), MetricName: aws.String("Lag"),
		Dimensions: other, StartTime: &minute, EndTime: aws.Time(minute.Add(time.Minute)), Period: aws.Int32(60),
		Statistics: []types.Statistic{types.StatisticSum, types.StatisticMinimum, types.StatisticMaximum, types.StatisticSampleCount, types.StatisticAverage}}))(t)
	if len(stats.Datapoints) != 1 {
		t.Fatalf("the points are %+v", stats.Datapoints)
	}
	if p := stats.Datapoints[0]; *p.Sum != 46 || *p.Minimum != -4 || *p.Maximum != 20 || *p.SampleCount != 4 || *p.Average != 11.5 || !p.Timestamp.Equal(minute) {
		t.Errorf("the point is %v %v %v %v %v at %v", *p.Sum, *p.Minimum, *p.Maximum, *p.SampleCount, *p.Average, p.Timestamp)
	}
	data := must(client.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{StartTime: &minute, EndTime: aws.Time(minute.Add(time.Hour)), MetricDataQueries: []types.MetricDataQuery{{
		Id: aws.String("lag"), MetricStat: &types.MetricStat{Period: aws.Int32(60), Stat: aws.String("Maximum"),
			Metric: &types.Metric{Namespace: aws.String("Lifeboat"), MetricName: aws.String("Lag"), Dimensions: dimensions}}}}}))(t)
	if got := data.MetricDataResults[0].Values; !reflect.DeepEqual(got, []float64{2, 20}) {
		t.Errorf("the newest first: %v", got)
	}
	list := must(client.ListMetrics(t.Context(), &cloudwatch.ListMetricsInput{Namespace: aws.String("Lifeboat")}))(t)
	if len(list.Metrics) != 1 || len(list.Metrics[0].Dimensions) != 2 {
		t.Errorf("the metrics are %+v", list.Metrics)
	}
}

func TestMetricsThatCloudWatchRefuses(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	client := cloudwatch.NewFromConfig(sdk(c, "eu-west-1", "key"))
	put := func(namespace string, d types.MetricDatum) string {
		d.MetricName = aws.String("m")
		_, err := client.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: &namespace, MetricData: []types.MetricDatum{d}})
		return refused(err)
	}
	for what, got := range map[string]string{
		"a namespace of AWS": put("AWS/EC2", types.MetricDatum{Value: aws.Float64(1)}),
		"a time long ago":    put("L", types.MetricDatum{Value: aws.Float64(1), Timestamp: aws.Time(time.Now().Add(-15 * 24 * time.Hour))}),
	} {
		if got != "InvalidParameterValue" {
			t.Errorf("%s: %q", what, got)
		}
	}
	if got := put("L", types.MetricDatum{Value: aws.Float64(1), Values: []float64{1}}); got != "InvalidParameterCombination" {
		t.Errorf("a value and values: %q", got)
	}
}

// What a decoder takes for the body of a request is an error or a value, never a panic.
func FuzzCBORRequest(f *testing.F) {
	at := time.Unix(1_700_000_000, 0)
	seed := cloudwatch.PutMetricDataInput{Namespace: aws.String("Lifeboat"), MetricData: []types.MetricDatum{{MetricName: aws.String("Lag"),
		Value: aws.Float64(-1.5), Timestamp: &at, StorageResolution: aws.Int32(-1), Values: []float64{1, 2}}}}
	f.Add(cbor.Encode(toCBOR(reflect.ValueOf(seed))))
	f.Add([]byte{0xa1, 0x61, 'a', 0xc1, 0x1b})
	f.Fuzz(func(t *testing.T, body []byte) {
		in, r := new(cloudwatch.PutMetricDataInput), new(http.Request)
		if (cborWire{}).decode("", r, body, reflect.ValueOf(in)) != nil {
			return
		}
		again := new(cloudwatch.PutMetricDataInput)
		if err := (cborWire{}).decode("", r, cbor.Encode(toCBOR(reflect.ValueOf(in))), reflect.ValueOf(again)); err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
	})
}
