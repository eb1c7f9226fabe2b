package main

import (
	"io/fs"
	"math"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

func TestValues(t *testing.T) {
	var n int
	var bytes int64
	var d time.Duration
	var mode fs.FileMode
	var word string
	for _, c := range []struct {
		to         cli.Generic
		text, want string // want "" for an error
	}{
		{number{&n, -1, 10}, "-1", "-1"},
		{number{&n, -1, 10}, "10", "10"},
		{number{&n, -1, 10}, "11", ""},
		{number{&n, -1, 10}, "-2", ""},
		{number{&n, 1, math.MaxInt}, "0", ""},
		{number{&n, -1, 10}, "1.5", ""},
		{number{&n, -1, 10}, "99999999999999999999", ""},
		{size{&bytes, 1, 1 << 30}, "1", "1"},
		{size{&bytes, 1, 1 << 30}, "1023", "1023"},
		{size{&bytes, 1, 1 << 30}, "64k", "64k"},
		{size{&bytes, 1, 1 << 30}, "65536", "64k"},
		{size{&bytes, 1, 1 << 30}, "1M", "1m"},
		{size{&bytes, 1, 1 << 30}, "1g", "1g"},
		{size{&bytes, 1, 1 << 30}, "1025m", ""},
		{size{&bytes, 1, 1 << 30}, "9223372036854775807g", ""},
		{size{&bytes, 1, 1 << 30}, "-1k", ""},
		{size{&bytes, 1, 1 << 30}, "0", ""},
		{size{&bytes, 1, 1 << 30}, "k", ""},
		{size{&bytes, 1, 1 << 30}, "1t", ""},
		{size{&bytes, 1, 1 << 30}, "", ""},
		{duration{&d, 0, time.Hour}, "0", "0s"},
		{duration{&d, 0, time.Hour}, "250ms", "250ms"},
		{duration{&d, 0, time.Hour}, "50us", "50us"},
		{duration{&d, 0, time.Hour}, "90s", "1m30s"},
		{duration{&d, 0, time.Hour}, "60s", "1m"},
		{duration{&d, 0, time.Hour}, "60m", "1h"},
		{duration{&d, 0, time.Hour}, "5", ""},
		{duration{&d, 0, time.Hour}, "2h", ""},
		{duration{&d, 0, time.Hour}, "-1s", ""},
		{permissions{&mode}, "0700", "0700"},
		{permissions{&mode}, "777", "0777"},
		{permissions{&mode}, "1777", ""},
		{permissions{&mode}, "8", ""},
		{choice{&word, []string{"a", "b"}}, "b", "b"},
		{choice{&word, []string{"a", "b"}}, "c", ""},
	} {
		before := c.to.String()
		err := c.to.Set(c.text)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%T takes %q as %s", c.to, c.text, c.to)
		case c.want == "" && c.to.String() != before:
			t.Errorf("%T: the mistake %q changed the setting to %s", c.to, c.text, c.to)
		case c.want != "" && err != nil:
			t.Errorf("%T: %q: %v", c.to, c.text, err)
		case c.want != "" && c.to.String() != c.want:
			t.Errorf("%T: %q became %s, want %s", c.to, c.text, c.to, c.want)
		}
	}
}

func TestOrList(t *testing.T) {
	for want, words := range map[string][]string{"": nil, "a": {"a"}, "a or b": {"a", "b"}, "a, b or c": {"a", "b", "c"}} {
		if got := orList(words); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
