// The interoperability table with Eclipse Paho for Go: paho.mqtt.golang in versions 3.1 and 3.1.1, paho.golang in 5.
//
//	table PORT VERSION [ROW]...
//
// VERSION is 31, 311 or 5. Each row is one line on standard output: `ROW<TAB>ok` or `ROW<TAB>failed<TAB>why`.
package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

var (
	address string
	version string
)

type row struct {
	name string
	run  func()
}

// All rows at once: most of them only wait. A row fails by a panic.
func main() {
	address, version = "127.0.0.1:"+os.Args[1], os.Args[2]
	rows := allRows()
	if version == "5" {
		rows = append(rows, newerRows...)
	}
	var running sync.WaitGroup
	for _, chosen := range rows {
		if isWanted(chosen.name) {
			running.Add(1)
			go func(chosen row) {
				defer running.Done()
				report(chosen)
			}(chosen)
		}
	}
	running.Wait()
}

func isWanted(name string) bool {
	wanted := os.Args[3:]
	for _, other := range wanted {
		if other == name {
			return true
		}
	}
	return len(wanted) == 0
}

func report(chosen row) {
	defer func() {
		if why := recover(); why != nil {
			text := strings.NewReplacer("\n", " ", "\t", " ").Replace(fmt.Sprint(why))
			fmt.Printf("%s\tfailed\t%s\n", chosen.name, text)
		}
	}()
	chosen.run()
	fmt.Printf("%s\tok\n", chosen.name)
}

func check(holds bool, format string, values ...any) {
	if !holds {
		panic(fmt.Sprintf(format, values...))
	}
}

func equal[T comparable](found, expected T, what string) {
	check(found == expected, "%s: %v, expected %v", what, found, expected)
}

func succeeds(err error, what string) {
	check(err == nil, "%s: %v", what, err)
}
