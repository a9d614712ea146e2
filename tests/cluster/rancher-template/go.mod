module kwasm.sh/tests/cluster/rancher-template

go 1.26.0
