// Greets whom it is told to: `greet kind people` prints `Hello, kind people!`.
#include <stdio.h>

int main(int argc, char **argv) {
    fputs("Hello, ", stdout);
    for (int i = 1; i < argc; i++) {
        printf("%s%s", i > 1 ? " " : "", argv[i]);
    }
    puts(argc > 1 ? "!" : "world!");
    return 0;
}
