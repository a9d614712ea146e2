// Opens the file that it is told to and says whether it could.
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc != 2) {
        fputs("usage: open FILE\n", stderr);
        return 2;
    }
    if (!fopen(argv[1], "r")) {
        perror(argv[1]);
        return 1;
    }
    printf("opened %s\n", argv[1]);
    return 0;
}
