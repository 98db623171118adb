package check

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Exercise 01 reads a configuration of fifty keys, and ends whatever happens to etcd.
var connect = Exercise{"01-connect", []scenario{
	{name: "start", play: func(r *round) {
		p, values := configure(r)
		p = patiently(p)
		if _, ever := p.relays[0].Connections(); ever > 2 {
			r.refuse(0, "To read fifty keys from one member, the program opened %d connections to it. "+
				"What does a client keep open, and how many does one program need?", ever)
		}
		p.succeed(configLimit, "All fifty keys are there, and so is etcd.")
		judgeConfig(p, values, "")
	}},
	{name: "missing key", play: func(r *round) {
		p, values := configure(r)
		missing := configKey(33)
		r.tell("There was no %s: it was deleted at revision %d.", missing, r.delete(missing))
		values[33] = ""
		p = patiently(p)
		judgeConfig(p, values, missing)
	}},
	{name: "dead port", play: func(r *round) {
		p, values := configure(r)
		p.relays[0].Refuse()
		r.tell("The endpoint refused connections.")
		p.run(configLimit)
		judgeConfig(p, values, p.endpoints())
	}},
	{name: "silent port", play: func(r *round) {
		p, values := configure(r)
		p.relays[0].Hold()
		r.tell("The endpoint accepted connections, and was silent.")
		p.run(configLimit)
		judgeConfig(p, values, p.endpoints())
	}},
	{name: "lost call", play: func(r *round) {
		p, values := configure(r)
		p.strike("a read of "+configKey(19), reads(configKey(19)), func(c *call) {
			r.tell("Its call that reads %s got no answer.", configKey(19))
			c.drop()
		})
		p.run(configLimit)
		judgeConfig(p, values, p.endpoints())
	}},
	{name: "lost call and all that follow", play: func(r *round) {
		p, values := configure(r)
		p.strike("a read of "+configKey(19), reads(configKey(19)), func(c *call) {
			r.tell("From its call that reads %s on, etcd was silent.", configKey(19))
			p.relays[0].Hold()
			c.drop()
		})
		p.run(configLimit)
		judgeConfig(p, values, p.endpoints())
	}},
	{name: "Ctrl-C", play: func(r *round) {
		p, values := configure(r)
		silent := p.strike("a read of "+configKey(19), reads(configKey(19)), func(c *call) {
			// Else a program that asks again would have all before it has to end.
			p.relays[0].Hold()
			r.tell("From its call that reads %s on, etcd was silent. Then somebody pressed Ctrl-C.", configKey(19))
			p.interrupt()
		})
		p.start()
		r.wait(r.granted(configLimit), func() bool { return silent.struck || p.hasEnded() })
		if limit := r.granted(interruptLimit); !r.wait(limit, p.hasEnded) {
			r.refuse(0, "%v later the program still runs. Who tells a call that nobody waits for it any more?", limit)
		}
		judgeConfig(p, values, "interrupted")
	}},
}}

const (
	// configLimit is the 5 s that the program has, and more for a slow machine.
	configLimit = 7 * time.Second

	// interruptLimit is the second that it has after Ctrl-C, and one more.
	interruptLimit = 2 * time.Second
)

func configKey(n int) string { return fmt.Sprintf("/config/%02d", n) }

// configure puts the fifty keys, and prepares the program. It returns their values.
func configure(r *round) (*program, []string) {
	var values []string
	pairs := beside("/config/")
	for n := range 50 {
		value := fmt.Sprintf("on port %d", 10000+rand.IntN(90000))
		values = append(values, value)
		pairs = append(pairs, configKey(n), value)
	}
	r.put(pairs...)
	return configProgram(r), values
}

// configLine matches the lines that are looked at.
var configLine = regexp.MustCompile(`^/config/`)

func configProgram(r *round) *program {
	p := r.program()
	p.out.judged = configLine
	p.env = []string{"ETCDCTL_DIAL_TIMEOUT=" + r.granted(2*time.Second).String()} // It has to end in time without an etcd.
	return p
}

// patiently runs the program to its end, and returns it. Where etcd is there and gives
// no answer for a second, the machine is busy, and a program that has given up was
// right: then another run is returned.
func patiently(p *program) *program {
	for try := 1; ; try++ {
		p.run(configLimit)
		if p.status != 1 || p.took < time.Second || try == 3 {
			return p
		}
		p = configProgram(p.round)
	}
}

// judgeConfig judges the output and the status of a program that has ended. One that
// has not read all fifty has to have named what stood in its way. A key without a value
// is not there.
func judgeConfig(p *program, values []string, reason string) {
	r := p.round
	printed := slices.DeleteFunc(strings.Split(p.out.String(), "\n"), func(line string) bool { return !configLine.MatchString(line) })
	for n, line := range printed {
		want := "nothing"
		if n < len(values) && values[n] != "" {
			want = fmt.Sprintf("%s -> %q", configKey(n), values[n])
		}
		if line != want {
			r.refuse(0, "Line %d of the configuration is %s, but etcd has %s for it. "+
				"Who reads a configuration takes each line for true.", n+1, line, want)
		}
	}
	switch {
	case p.status == 0 && len(printed) < len(values):
		r.refuse(0, "The program ended with status 0, after %d of fifty keys. "+
			"Whoever goes on after status 0 goes on with half of a configuration.", len(printed))
	case p.status == 0:
	case p.status != 1:
		r.refuse(0, "The program ended with status %d: %s. An error that was expected is status 1.", p.status, p.lastWords())
	case !strings.Contains(p.said.String(), reason):
		r.refuse(0, "The program ended with status 1: %s. Nowhere does it say %q: "+
			"how would whoever has to mend it know?", p.lastWords(), reason)
	}
}
