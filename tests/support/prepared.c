/* Stands for a Python program: lets the server (prepared.py) run it in the place of this process, with its arguments, environment,
 * directory, files and signals. Where the server does not answer, or sees something that it could not give to the program just as a
 * start of its own would, this process becomes the program. `real` and `socket` lie beside this one. */
#define _GNU_SOURCE
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static pid_t program;

static void pass_on(int signal) { kill(program, signal); }

/* Sends stdin, stdout and stderr. Returns the connection, or -1. */
static int ask(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) return -1;
    strcpy(address.sun_path, path);
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server < 3 || connect(server, (struct sockaddr *)&address, sizeof address)) return -1;
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(3 * sizeof(int))];
    } control = {.head = {CMSG_LEN(3 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.head), (int[]){0, 1, 2}, 3 * sizeof(int));
    struct iovec byte = {"", 1};
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    return sendmsg(server, &message, MSG_NOSIGNAL) == 1 ? server : -1;
}

int main(int count, char **arguments) {
    char place[PATH_MAX], real[PATH_MAX], path[PATH_MAX + 8];
    ssize_t length = readlink("/proc/self/exe", place, sizeof place - 1);
    if (length < 0) return 127;
    place[length] = 0;
    *strrchr(place, '/') = 0;
    snprintf(path, sizeof path, "%s/real", place);
    if ((length = readlink(path, real, sizeof real - 1)) < 0) return 127;
    real[length] = 0;
    snprintf(path, sizeof path, "%s/socket", place);

    int server = ask(path), status;
    /* First comes the number of the process that runs the program, then how that has ended. */
    if (server < 0 || recv(server, &program, sizeof program, MSG_WAITALL) != sizeof program || program == 0) {
        execv(real, arguments);
        perror(real);
        return 127;
    }
    struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
    for (const int *signal = (int[]){SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, 0}; *signal; signal++)
        sigaction(*signal, &action, NULL);
    if (recv(server, &status, sizeof status, MSG_WAITALL) != sizeof status) abort();
    if (status >= 0) _exit(status);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(-status, SIG_DFL);
    kill(getpid(), -status);
    return 127;
}
