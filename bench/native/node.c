/* A mock node: OpenAI-type answers on every given port, in one piece or token by token.
 *
 *   node [-a] -r TOKENS_PER_SECOND -t TOKENS PORT...     (rate 0: as fast as the reader takes them, in turn)
 *
 * With -a it speaks the protocol of plumise-agent.
 *
 * Each token's text carries the CLOCK_MONOTONIC nanosecond at which it was due, as "@<ns>", so that a client on the
 * same machine can tell how long it was on its way. Prints "ready" once it listens. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 65536
#define INPUT 16384
#define MODEL "bigscience/bloom-560m"

typedef struct {
    int listens, left, slot; /* slot: place among the streams, or -1 */
    size_t used;
    uint64_t due;
    char *input;
} Connection;

static Connection connections[MAX_FDS];
static int streams[MAX_FDS], stream_count;
static uint64_t interval_ns;
static int tokens = 128, is_agent;
static char json_answer[2048];

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void leave_stream(int fd) {
    int slot = connections[fd].slot;
    if (slot < 0) return;
    streams[slot] = streams[--stream_count];
    connections[streams[slot]].slot = slot;
    connections[fd].slot = -1;
}

static void drop(int fd) {
    leave_stream(fd);
    free(connections[fd].input);
    connections[fd].input = NULL;
    close(fd);
}

/* False when the reader is behind (nothing was sent) or gone. A part of a frame is finished at once: frames are small. */
static int give(int fd, const char *data, size_t size) {
    size_t sent = 0;
    while (sent < size) {
        ssize_t n = send(fd, data + sent, size - sent, MSG_NOSIGNAL);
        if (n > 0) { sent += (size_t)n; continue; }
        if (errno != EAGAIN) { drop(fd); return 0; }
        if (sent == 0) return 0;
    }
    return 1;
}

static void give_json(int fd, const char *body) {
    char answer[4096];
    int size = snprintf(answer, sizeof answer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    give(fd, answer, (size_t)size);
}

static void begin_stream(int fd) {
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    if (!give(fd, head, sizeof head - 1)) return;
    Connection *c = &connections[fd];
    c->left = tokens;
    c->due = now_ns();
    c->slot = stream_count;
    streams[stream_count++] = fd;
}

static int give_event(int fd, const char *data) {
    char frame[1024];
    size_t size = strlen(data) + 8;
    int length = snprintf(frame, sizeof frame, "%zx\r\ndata: %s\n\n\r\n", size, data);
    return give(fd, frame, (size_t)length);
}

static void end_stream(int fd) {
    char usage[512];
    leave_stream(fd);
    if (is_agent) {
        if (give_event(fd, "[DONE]")) give(fd, "0\r\n\r\n", 5);
        return;
    }
    snprintf(usage, sizeof usage,
        "{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"" MODEL "\",\"choices\":[],"
        "\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":%d,\"total_tokens\":%d}}", tokens, tokens + 9);
    if (give_event(fd, usage) && give_event(fd, "[DONE]")) give(fd, "0\r\n\r\n", 5);
}

static void give_token(int fd, uint64_t now) {
    Connection *c = &connections[fd];
    char chunk[512];
    const char *reason = c->left == 1 ? "\"stop\"" : "null";
    unsigned long long stamp = (unsigned long long)(interval_ns ? c->due : now);
    if (is_agent) snprintf(chunk, sizeof chunk, "{\"token\": \" @%llu\"}", stamp);
    else snprintf(chunk, sizeof chunk,
        "{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"" MODEL "\",\"choices\":"
        "[{\"index\":0,\"delta\":{\"content\":\" @%llu\"},\"logprobs\":null,\"finish_reason\":%s}]}",
        stamp, reason);
    if (!give_event(fd, chunk)) return;
    c->due += interval_ns;
    if (--c->left == 0) end_stream(fd);
}

static void give_tokens(void) {
    uint64_t now = now_ns();
    for (int i = stream_count - 1; i >= 0; i--) /* downwards: whoever ends is replaced by the last one */
        if (connections[streams[i]].due <= now) give_token(streams[i], now);
}

static void answer(int fd, const char *head) {
    static const char health[] = "{\"status\":\"ok\",\"model\":\"" MODEL "\",\"mode\":\"pipeline\"}";
    if (strncmp(head, "GET /health", 11) == 0) give_json(fd, is_agent ? health : "");
    else if (strncmp(head, "GET ", 4) == 0) give_json(fd, "{\"object\":\"list\",\"data\":[{\"id\":\"" MODEL "\"}]}");
    else if (strstr(head, "\"stream\":true") || strstr(head, "\"stream\": true")) begin_stream(fd);
    else give_json(fd, json_answer);
}

/* One request at a time is answered; a second one that came with it stays for later. */
static int take_request(int fd) {
    Connection *c = &connections[fd];
    c->input[c->used] = 0;
    char *end = strstr(c->input, "\r\n\r\n");
    if (!end) return 0;
    char *length = strcasestr(c->input, "content-length:");
    size_t size = (size_t)(end + 4 - c->input) + (length && length < end ? strtoul(length + 15, NULL, 10) : 0);
    if (c->used < size) return 0;
    char after = c->input[size];
    c->input[size] = 0;
    answer(fd, c->input);
    if (!c->input) return 0;
    c->input[size] = after;
    memmove(c->input, c->input + size, c->used -= size);
    return 1;
}

static void read_from(int fd) {
    Connection *c = &connections[fd];
    ssize_t n = recv(fd, c->input + c->used, INPUT - 1 - c->used, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) drop(fd);
        return;
    }
    c->used += (size_t)n;
    while (c->input && c->slot < 0 && take_request(fd)) {}
}

static void watch(int poll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

static void take_in(int poll, int listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_FDS) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        connections[fd] = (Connection){.slot = -1, .input = malloc(INPUT)};
        watch(poll, fd);
    }
}

static void listen_on(int poll, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) {
        perror("listen");
        exit(1);
    }
    connections[fd].listens = 1;
    watch(poll, fd);
}

int main(int count, char **arguments) {
    int option, poll = epoll_create1(0);
    while ((option = getopt(count, arguments, "ar:t:")) != -1) {
        if (option == 'r' && atof(optarg) > 0) interval_ns = (uint64_t)(1e9 / atof(optarg));
        if (option == 'a') is_agent = 1;
        if (option == 't') tokens = atoi(optarg);
    }
    snprintf(json_answer, sizeof json_answer,
        "{\"id\":\"c-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"" MODEL "\",\"choices\":[{\"index\":0,"
        "\"message\":{\"role\":\"assistant\",\"content\":\"%0800d\"},\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":%d,\"total_tokens\":%d}}", 7, tokens, tokens + 9);
    if (is_agent) snprintf(json_answer, sizeof json_answer,
        "{\"generated_text\":\"%0800d\",\"num_tokens\":%d}", 7, tokens);
    for (int i = optind; i < count; i++) listen_on(poll, atoi(arguments[i]));
    puts("ready");
    fflush(stdout);
    struct epoll_event events[1024];
    for (;;) {
        int wait_ms = !stream_count ? -1 : interval_ns ? 1 : 0;
        int n = epoll_wait(poll, events, 1024, wait_ms);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (connections[fd].listens) take_in(poll, fd);
            else if (connections[fd].input) read_from(fd);
        }
        give_tokens();
    }
}
