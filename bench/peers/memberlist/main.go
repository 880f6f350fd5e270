// memberlist runs N members of hashicorp/memberlist in one process on loopback, for
// comparison with Serai's own gossip (python -m bench.peers). It prints one line of JSON:
// seconds until all members know all, and seconds from a silent death until all know it.
// Bytes are counted by whoever runs it, on the loopback interface.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/hashicorp/memberlist"
)

func main() {
	members := flag.Int("members", 32, "members of the pool")
	quiet := flag.Duration("quiet", 20*time.Second, "how long to stay quiet after joining")
	limit := flag.Duration("limit", 120*time.Second, "give up a phase after so long")
	flag.Parse()

	began := time.Now()
	pool := make([]*memberlist.Memberlist, *members)
	for i := range pool {
		config := memberlist.DefaultLANConfig()
		config.Name = fmt.Sprintf("m%04d", i)
		config.BindAddr, config.AdvertiseAddr = "127.0.0.1", "127.0.0.1"
		config.BindPort, config.AdvertisePort = 0, 0
		config.Logger = log.New(io.Discard, "", 0)
		member, err := memberlist.Create(config)
		check(err)
		pool[i] = member
		if i > 0 {
			_, err := member.Join([]string{pool[0].LocalNode().Address()})
			check(err)
		}
	}
	joined := wait(pool, *members, began, *limit)
	say("joined", joined)
	time.Sleep(*quiet)
	say("quiet", time.Since(began).Seconds())
	victim := pool[len(pool)-1]
	check(victim.Shutdown())
	killed := time.Now()
	say("detected", wait(pool[:len(pool)-1], *members-1, killed, *limit))
}

// wait returns the seconds since began until every member knows exactly `count` alive.
func wait(pool []*memberlist.Memberlist, count int, began time.Time, limit time.Duration) float64 {
	for {
		agreed := true
		for _, member := range pool {
			agreed = agreed && member.NumMembers() == count
		}
		if agreed {
			return time.Since(began).Seconds()
		}
		if time.Since(began) > limit {
			fmt.Fprintln(os.Stderr, "no agreement within", limit)
			os.Exit(1)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func say(phase string, seconds float64) {
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{"phase": phase, "s": seconds}))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
