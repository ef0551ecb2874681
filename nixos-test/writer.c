/* Writes to agents, and tells what was acknowledged: writer PORT WRITERS SOCKET...
 *
 * Each of the writers has a ConfigMap of its own with a number in it, and replaces it by the next number if
 * it is as it last saw it. After a 200 the line `NAME NUMBER` goes to PORT, which leads out of the machine. */
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

static void run(int port, int writer, char **sockets, int members) {
    const char *all = "/api/v1/namespaces/default/configmaps";
    char name[32], target[96], body[256], word[64];
    snprintf(name, sizeof name, "writer-%d", writer);
    snprintf(target, sizeof target, "%s/%s", all, name);
    long long number = -1, version = -1;
    for (unsigned turn = writer;; turn++) {
        const char *path = sockets[turn % members];
        if (number < 0) {
            int status = ask(path, "GET", target, "");
            number = status == 200 ? field("number") : -1;
            version = field("resourceVersion");
            if (status == 404) {
                snprintf(body, sizeof body, "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s\"},\"data\":{\"number\":\"0\"}}", name);
                ask(path, "POST", all, body);
            }
            if (number < 0)
                usleep(100000);
            continue;
        }
        snprintf(body, sizeof body, "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s\",\"resourceVersion\":\"%lld\"},\"data\":{\"number\":\"%lld\"}}", name, version, number + 1);
        if (ask(path, "PUT", target, body) == 200) {
            number = field("number");
            version = field("resourceVersion");
            int length = snprintf(word, sizeof word, "%s %lld\n", name, number);
            if (write(port, word, length) != length)
                exit(1);
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
