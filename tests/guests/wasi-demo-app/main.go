// wasi-demo-app is a WebAssembly program with something for every question one may have about a
// runtime: output, time, exit codes, environment, files, a trap.
//
// Its words are those of the demo application that containerd's wasm shims are shown with.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

const usage = `usage: wasi-demo-app [COMMAND]

  echo WORDS…      print the words
  sleep SECONDS    wait, then exit
  exit CODE        exit with this code
  env              print the environment, a variable per line
  write FILE TEXT  write a file
  read FILE        print a file
  stdin            print what comes in
  stderr WORDS…    print the words to standard error
  trap             reach outside of the memory
  daemon           print a line per second, forever (the default)
`

func main() {
	command, words := "daemon", []string{}
	if len(os.Args) > 1 {
		command, words = os.Args[1], os.Args[2:]
	}
	if err := run(command, words); err != nil {
		fmt.Fprintln(os.Stderr, "wasi-demo-app:", err)
		os.Exit(1)
	}
}

func run(command string, words []string) error {
	switch command {
	case "echo":
		fmt.Println(strings.Join(words, " "))
	case "stderr":
		fmt.Fprintln(os.Stderr, strings.Join(words, " "))
	case "sleep":
		return sleep(words)
	case "exit":
		return exit(words)
	case "env":
		for _, variable := range os.Environ() {
			fmt.Println(variable)
		}
	case "write":
		return write(words)
	case "read":
		return read(words)
	case "stdin":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "trap":
		trap()
	case "daemon":
		daemon()
	default:
		return fmt.Errorf("unknown command %q\n%s", command, usage)
	}
	return nil
}

func sleep(words []string) error {
	if len(words) != 1 {
		return fmt.Errorf("sleep wants one number of seconds, such as: sleep 1.5")
	}
	seconds, err := strconv.ParseFloat(words[0], 64)
	if err != nil {
		return fmt.Errorf("sleep wants a number of seconds: %w", err)
	}
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	return nil
}

func exit(words []string) error {
	if len(words) != 1 {
		return fmt.Errorf("exit wants one code, such as: exit 3")
	}
	code, err := strconv.Atoi(words[0])
	if err != nil {
		return fmt.Errorf("exit wants a code: %w", err)
	}
	os.Exit(code)
	return nil
}

func write(words []string) error {
	if len(words) != 2 {
		return fmt.Errorf("write wants a file and a text, such as: write /data/x hello")
	}
	return os.WriteFile(words[0], []byte(words[1]), 0o644)
}

func read(words []string) error {
	if len(words) != 1 {
		return fmt.Errorf("read wants one file, such as: read /data/x")
	}
	file, err := os.Open(words[0])
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(os.Stdout, file)
	return err
}

// trap loads from two gigabytes beyond a variable, where this program has no memory. The engine ends
// it there: Go cannot recover from that.
func trap() {
	var here byte
	fmt.Println(*(*byte)(unsafe.Add(unsafe.Pointer(&here), 1<<31)))
}

func daemon() {
	for line := 1; ; line++ {
		fmt.Println("This is line", line, "of a song that never ends.")
		time.Sleep(time.Second)
	}
}
