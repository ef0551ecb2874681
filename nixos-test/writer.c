/* Writes to agents, and tells what was acknowledged: writer PORT WRITERS SOCKET...
 *
 * Each of the writers has a ConfigMap `filled-000000`, which is there. It puts the next number into it if it is
 * as it last saw it. After a 200, and after each look, the line `NAME NUMBER` goes to PORT, which leads out of the
 * machine: what was acknowledged and what was seen must stay. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char answer[1 << 16];

/* The status of the answer, which is in `answer`; 0 if there is none. */
static int ask(const char *path, const char *method, const char *target, const char *body) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int line = socket(AF_UNIX, SOCK_STREAM, 0);
    int status = 0;
    size_t length = 0;
    if (!connect(line, (struct sockaddr *)&address, sizeof address)) {
        dprintf(line, "%s %s HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                method, target, strlen(body), body);
        ssize_t count;
        while ((count = read(line, answer + length, sizeof answer - 1 - length)) > 0)
            length += count;
        answer[length] = 0;
        sscanf(answer, "HTTP/%*s %d", &status);
    }
    close(line);
    return status;
}

/* The number after `"NAME":"` in the answer; -1 if there is none. */
static long long field(const char *name) {
    char word[64];
    snprintf(word, sizeof word, "\"%s\":\"", name);
    const char *at = strstr(answer, word);
    return at ? atoll(at + strlen(word)) : -1;
}

static void tell(int port, const char *name, long long number) {
    char word[64];
    int length = snprintf(word, sizeof word, "%s %lld\n", name, number);
    if (write(port, word, length) != length)
        exit(1);
}

static void run(int port, int writer, char **sockets, int members) {
    char name[32], target[96], body[256];
    snprintf(name, sizeof name, "filled-%06d", writer);
    snprintf(target, sizeof target, "/api/v1/namespaces/default/configmaps/%s", name);
    long long number = -1, version = -1;
    for (unsigned turn = writer;; turn++) {
        const char *path = sockets[turn % members];
        if (number < 0) {
            if (ask(path, "GET", target, "") != 200) {
                usleep(100000);
                continue;
            }
            version = field("resourceVersion");
            number = field("number");
            if (number < 0)
                number = 0;
            tell(port, name, number);
        }
        snprintf(body, sizeof body,
                 "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\","
                 "\"resourceVersion\":\"%lld\"},\"data\":{\"number\":\"%lld\"}}",
                 name, version, number + 1);
        if (ask(path, "PUT", target, body) == 200) {
            number = field("number");
            version = field("resourceVersion");
            tell(port, name, number);
        } else {
            /* Done, or not: it reads again. */
            number = -1;
            usleep(100000);
        }
    }
}

int main(int argc, char **argv) {
    int port = argc > 3 ? open(argv[1], O_WRONLY) : -1;
    if (port < 0)
        return 1;
    for (int writer = 0; writer < atoi(argv[2]); writer++)
        if (!fork())
            run(port, writer, argv + 3, argc - 3);
    while (wait(NULL) > 0)
        ;
    return 0;
}
