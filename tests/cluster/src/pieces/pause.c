/* Holds a pod's namespaces open: sleeps, and ends when asked to. */
#include <signal.h>
#include <unistd.h>

static void end(int signal) { _exit(0); }

int main(void) {
  signal(SIGINT, end);
  signal(SIGTERM, end);
  signal(SIGCHLD, SIG_IGN); /* orphans of a shared process namespace are reaped by the kernel */
  for (;;) pause();
}
