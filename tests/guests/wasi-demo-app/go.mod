module kwasm.sh/tests/guests/wasi-demo-app

go 1.26
