package aws

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

func entryOf(token string) cloud.Entry {
	return cloud.Entry{Token: token, Kind: cloud.KindDisk, Plan: "plan", Operation: "drill/plan/1", Role: "drill"}
}

// asked counts the requests of an operation since the list began.
func asked(d *double, operation string) (n int) {
	for _, r := range d.cloud.Requests() {
		if r.Operation == operation {
			n++
		}
	}
	return n
}

func TestALedgerWhoseAnswersAreLostStaysRight(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{PageSize: 3})
	p := d.open("home").(*Provider)
	fault := &awstest.Error{Code: "InternalError", Message: "lost", Status: 500}
	tokens := 8
	for i := range tokens {
		token := fmt.Sprint("token/", i)
		// The work is done, the SDK asks again, and meets what it did itself.
		d.cloud.Inject(awstest.Rule{Service: "s3", Operation: "PutObject", Times: 1, Error: fault, After: true})
		mine := entryOf(token)
		mine.Intended = time.Now().UTC()
		got, err := p.Intend(t.Context(), mine)
		require.NoError(t, err)
		require.True(t, got.Intended.Equal(mine.Intended), "it is seen as its own")
		d.cloud.Inject(awstest.Rule{Service: "s3", Operation: "PutObject", Times: 1, Drop: true, After: true})
		require.NoError(t, p.Made(t.Context(), token, "disk-"+fmt.Sprint(i)))
		d.cloud.Inject(awstest.Rule{Service: "s3", Operation: "PutObject", Times: 1, Error: fault})
		require.NoError(t, p.Keep(t.Context(), []string{token}, "recovered"))
		d.cloud.Inject(awstest.Rule{Service: "s3", Operation: "GetObject", Times: 1, Drop: true})
		require.NoError(t, p.Gone(t.Context(), token))
	}
	list, err := p.Entries(t.Context(), cloud.LedgerFilter{})
	require.NoError(t, err)
	require.Len(t, list, tokens, "listings are complete")
	for i, e := range list {
		require.Equal(t, fmt.Sprint("token/", i), e.Token)
		require.Equal(t, fmt.Sprint("disk-", i), e.ID)
		require.True(t, e.Kept && e.Deleted != nil)
	}
}

func TestManyWorkersChangeTheLedgerAtOnce(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	var all sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]int{}
	for i := range 8 {
		p := d.open("home").(*Provider)
		all.Go(func() {
			_, err := p.Intend(t.Context(), entryOf("shared"))
			if err != nil {
				t.Error(err)
			}
			err = p.Made(t.Context(), "shared", fmt.Sprint("disk-", i))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				ids[fmt.Sprint("disk-", i)]++
			} else if cloud.CodeOf(err) != cloud.TokenMismatch {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Len(t, ids, 1, "one identifier was taken")
	list, err := d.open("home").(*Provider).Entries(t.Context(), cloud.LedgerFilter{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Contains(t, ids, list[0].ID)
}

func TestAListingReadsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	other := d.open("home").(*Provider)
	for i := range 20 {
		_, err := p.Intend(t.Context(), entryOf(fmt.Sprint("token-", i)))
		require.NoError(t, err)
	}
	_, err := p.Entries(t.Context(), cloud.LedgerFilter{})
	require.NoError(t, err)
	require.NoError(t, other.Made(t.Context(), "token-7", "disk-7"))
	d.cloud.ForgetRequests()
	list, err := p.Entries(t.Context(), cloud.LedgerFilter{})
	require.NoError(t, err)
	require.Equal(t, 1, asked(d, "GetObject"))
	require.Equal(t, "disk-7", list[7].ID, "what another process changed is seen")
}

func TestEntriesOfWhatIsLongGoneAreDropped(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	for token, age := range map[string]time.Duration{"old": ledgerKeep + time.Hour, "young": ledgerKeep - time.Hour} {
		then := time.Now().Add(-age)
		r := ledgerRecord{Entry: entryOf(token)}
		r.ID, r.Intended, r.Deleted = "disk-1", then, &then
		data, err := json.Marshal(r)
		require.NoError(t, err)
		_, err = p.putObject(t.Context(), "test", object{key: ledgerPrefix + keyOf(token), data: data})
		require.NoError(t, err)
	}
	for range 2 {
		list, err := p.Entries(t.Context(), cloud.LedgerFilter{})
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, "young", list[0].Token)
	}
	objects, err := p.listObjects(t.Context(), "test", ledgerPrefix)
	require.NoError(t, err)
	require.Len(t, objects, 1)
}

func TestDamagedEntriesAreNotOverlooked(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	_, err := p.putObject(t.Context(), "test", object{key: ledgerPrefix + "broken", data: []byte("{")})
	require.NoError(t, err)
	_, err = p.Entries(t.Context(), cloud.LedgerFilter{})
	require.Equal(t, cloud.Corrupt, cloud.CodeOf(err))
	require.ErrorContains(t, err, "lifeboat/ledger/broken")
}

func TestTheBucketIsMadeWhenItIsFirstWrittenTo(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"home", "away"} { // us-east-1 names no region, the others do
		d := doubleOf(t, awstest.Options{})
		d.cloud.ForgetRequests()
		p := d.open(name).(*Provider)
		list, err := p.Entries(t.Context(), cloud.LedgerFilter{})
		require.NoError(t, err)
		require.Empty(t, list)
		require.NoError(t, cloud.IgnoreNotFound(p.Gone(t.Context(), "unknown")))
		require.Zero(t, asked(d, "CreateBucket"))
		_, err = p.Intend(t.Context(), entryOf("token"))
		require.NoError(t, err)
	}
}

func TestABucketOfAStrangerIsRefused(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	d.cloud.Role("arn:aws:iam::222222222222:role/other", "")
	site, o := d.site("home"), d.options()
	site.Account, site.Role = "222222222222", "arn:aws:iam::222222222222:role/other"
	o.Credentials = credentials.NewStaticCredentialsProvider("key", "secret", "")
	stranger := d.provider(site, o)
	_, err := stranger.Intend(t.Context(), entryOf("token"))
	require.NoError(t, err)
	p := d.open("home").(*Provider)
	_, err = p.Intend(t.Context(), entryOf("token"))
	require.Equal(t, cloud.Denied, cloud.CodeOf(err))
	_, err = d.open("away").(*Provider).Intend(t.Context(), entryOf("token"))
	require.NoError(t, err)
	elsewhere := d.site("home")
	elsewhere.Bucket = "lifeboat-away"
	_, err = d.provider(elsewhere, d.options()).Intend(t.Context(), entryOf("token"))
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err))
	require.ErrorContains(t, err, "region")
	none := d.site("home")
	none.Bucket = ""
	_, err = d.provider(none, d.options()).Intend(t.Context(), entryOf("token"))
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err))
	require.ErrorContains(t, err, "bucket")
}

func TestDocumentsSurviveLostAnswers(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	doc := cloud.Document{Name: "agentless/db.1", Data: []byte("first")}
	for _, data := range []string{"first", "second", "second"} {
		d.cloud.Inject(awstest.Rule{Service: "s3", Operation: "PutObject", Times: 1, Drop: true, After: true})
		doc.Data = []byte(data)
		next, err := p.PutDocument(t.Context(), doc)
		require.NoError(t, err, "the writer that asks again is no other writer")
		require.NotEqual(t, doc.Version, next.Version, "also of the same content")
		doc = next
	}
	_, err := p.putObject(t.Context(), "test", object{key: documentPrefix + "foreign", data: []byte("x\n")})
	require.NoError(t, err)
	_, err = p.Document(t.Context(), "foreign")
	require.Equal(t, cloud.Corrupt, cloud.CodeOf(err))
	_, err = p.putObject(t.Context(), "test", object{key: documentPrefix + "newer", data: []byte("lifeboat document 2 x\n")})
	require.NoError(t, err)
	_, err = p.Document(t.Context(), "newer")
	require.Equal(t, cloud.NewerState, cloud.CodeOf(err))
}

func FuzzKeys(f *testing.F) {
	f.Add("lb-1234", "lb/1234")
	f.Add("..", ".")
	f.Add("a=2Fb", "a/b")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, c := range keyOf(a) {
			if c == '/' || c > 0x7e || c <= ' ' {
				t.Fatalf("%q stands for itself in %q", c, keyOf(a))
			}
		}
		if (keyOf(a) == keyOf(b)) != (a == b) {
			t.Fatalf("%q and %q have the key %q", a, b, keyOf(a))
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	f.Add([]byte(`{"token":"a","kind":"disk","plan":"p","operation":"o","intended":"2026-01-01T00:00:00Z","written":1}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseEntry(object{key: ledgerPrefix + "a", data: data})
		if err == nil && r.Token != "a" {
			t.Fatalf("an entry of %q was taken for that of a", r.Token)
		}
		if err != nil && cloud.CodeOf(err) != cloud.Corrupt {
			t.Fatal(err)
		}
	})
}

func FuzzParseDocument(f *testing.F) {
	f.Add([]byte("lifeboat document 1 x\ndata"))
	f.Add([]byte("lifeboat document 2 x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := parseDocument(object{key: documentPrefix + "a", version: "v", data: data})
		if err == nil && (doc.Name != "a" || doc.Version != "v" || len(doc.Data) >= len(data)) {
			t.Fatalf("%q was read as %+v", data, doc)
		}
		if code := cloud.CodeOf(err); err != nil && code != cloud.Corrupt && code != cloud.NewerState {
			t.Fatal(err)
		}
	})
}
