// Says a line and traps: the `unreachable` instruction is all that follows.
#include <stdio.h>

int main(void) {
    puts("about to trap");
    fflush(stdout);
    __builtin_trap();
}
