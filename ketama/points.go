package ketama

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"

	goketama "github.com/dgryski/go-ketama"
)

// A point is where a server stands on the ring. The server owns the hashes from
// the point before, exclusive, to value, inclusive.
type point struct {
	value  uint32
	server uint32
}

// sortPoints puts points in ring order. Of two servers on one value the one named
// first comes first, as in libmemcached and the C magent.
func sortPoints(points []point) {
	slices.SortFunc(points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(a.server, b.server))
	})
}

// filler is the label of buckets that are no servers: no host has it.
const filler = "\x00"

// md5Points returns go-ketama's ring on which label i has exactly digests[i]
// digests. Labels must differ.
//
// go-ketama gives a bucket the whole part of 40 * buckets * weight / total
// digests. With weights of 2*digests+1 in a total of 80 * buckets, that is the
// whole part of digests + 1/2, which no rounding of its floats can change.
// Fillers make up the total: those of weight 1 have no points, and the points
// of the last one are left out.
func md5Points(labels []string, digests []int) ([]point, error) {
	var buckets []goketama.Bucket
	want, sum := 0, 0
	for i, label := range labels {
		buckets = append(buckets, goketama.Bucket{Label: label, Weight: 2*digests[i] + 1})
		want += digests[i] * pointsPerDigest
		sum += 2*digests[i] + 1
	}
	for sum >= 80*(len(buckets)+1) {
		buckets = append(buckets, goketama.Bucket{Label: filler, Weight: 1})
		sum++
	}
	buckets = append(buckets, goketama.Bucket{Label: filler, Weight: 80*(len(buckets)+1) - sum})

	continuum, err := goketama.NewWithHash(buckets, goketama.HashFunc2)
	if err != nil {
		return nil, err
	}
	points := make([]point, 0, want)
	index := make(map[string]uint32, len(labels))
	for i, label := range labels {
		index[label] = uint32(i)
	}
	// go-ketama answers only with labels, so its points are read here by
	// reflection, once for each ring.
	ring := reflect.ValueOf(continuum).Elem().FieldByName("ring")
	if ring.Kind() != reflect.Slice {
		return nil, errPoints
	}
	for i := range ring.Len() {
		p := ring.Index(i)
		if server, ok := index[p.FieldByName("bucket").FieldByName("Label").String()]; ok {
			points = append(points, point{uint32(p.FieldByName("point").Uint()), server})
		}
	}
	if len(points) != want {
		return nil, errPoints
	}
	sortPoints(points)
	return points, nil
}

// oneAtATimePoints returns libmemcached's ring without weights: 100 points a
// server, each the hash of label and number.
func oneAtATimePoints(labels []string) []point {
	const perServer = 100
	points := make([]point, 0, perServer*len(labels))
	for i, label := range labels {
		for k := range perServer {
			value := oneAtATime([]byte(label + "-" + strconv.Itoa(k)))
			points = append(points, point{value, uint32(i)})
		}
	}
	sortPoints(points)
	return points
}
