// An ordinary Linux container beside the wasm ones: says a line, then waits to be ended.
// With words, it prints these instead and exits.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// As PID 1 of its container it is only ended by the signals that it handles.
static void leave(int signal) {
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv) {
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    for (int i = 1; i < argc; i++) {
        printf("%s%s", i > 1 ? " " : "", argv[i]);
    }
    puts(argc > 1 ? "" : "Hello from Linux!");
    fflush(stdout);
    while (argc == 1) {
        pause();
    }
    return 0;
}
