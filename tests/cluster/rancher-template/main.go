// rancher-template renders a template of containerd's configuration as k3s and RKE2 do when they start:
//
//	rancher-template BASE <TEMPLATE
//
// BASE is what the built-in template renders to. A template that does not parse, or names what is not there,
// ends with an error.
package main

import (
	"io"
	"log"
	"os"
	"text/template"
)

// The values have the names that k3s' own have (`ContainerdConfig` in its pkg/agent/templates).
type config struct {
	NodeConfig         node
	DisableCgroup      bool
	SystemdCgroup      bool
	IsRunningInUserNS  bool
	EnableUnprivileged bool
	NoDefaultEndpoint  bool
	ExtraRuntimes      map[string]extraRuntime
	Program            string
}

type node struct {
	SELinux     bool
	NoFlannel   bool
	Containerd  containerd
	AgentConfig agent
}

type containerd struct {
	Address, Root, Opt, State, Registry string
}

type agent struct {
	PauseImage, Snapshotter, CNIBinDir, CNIConfDir string
}

type extraRuntime struct {
	RuntimeType, BinaryName string
}

const folder = "/var/lib/rancher/k3s/agent"

var plausible = config{
	NodeConfig: node{
		Containerd: containerd{
			Address:  "/run/k3s/containerd/containerd.sock",
			Root:     folder + "/containerd",
			Opt:      folder + "/containerd",
			State:    "/run/k3s/containerd",
			Registry: folder + "/etc/containerd/certs.d",
		},
		AgentConfig: agent{
			PauseImage:  "rancher/mirrored-pause:3.6",
			Snapshotter: "overlayfs",
			CNIBinDir:   "/var/lib/rancher/k3s/data/cni",
			CNIConfDir:  folder + "/etc/cni/net.d",
		},
	},
	SystemdCgroup:      true,
	EnableUnprivileged: true,
	ExtraRuntimes:      map[string]extraRuntime{"crun": {RuntimeType: "io.containerd.runc.v2", BinaryName: "/usr/bin/crun"}},
	Program:            "k3s",
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: rancher-template BASE <TEMPLATE")
	}
	base, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	if err := render(string(base), string(text)); err != nil {
		log.Fatal(err)
	}
}

func render(base, text string) error {
	rendered, err := template.New("containerd").Parse(text)
	if err != nil {
		return err
	}
	if _, err := rendered.New("base").Parse(base); err != nil {
		return err
	}
	return rendered.Execute(os.Stdout, plausible)
}
