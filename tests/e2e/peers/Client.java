import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;

/** The requests of test_real_peers.py, sent by what the JDK has, with its defaults: HttpClient offers HTTP/2 each time. */
public final class Client {
    private static final byte[] BODY = new byte[100_000];
    private static String base;

    public static void main(String[] arguments) throws Exception {
        Arrays.fill(BODY, (byte) 'b');
        base = arguments[1];
        switch (arguments[0]) {
            case "httpclient" -> httpClient();
            case "urlconnection" -> urlConnection();
            case "websocket" -> webSocket();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private static void report(String step, int status, byte[] body) {
        String text = step.equals("large") ? "\"" + body.length + "\"" : new String(body, StandardCharsets.UTF_8);
        System.out.println("{\"step\": \"" + step + "\", \"status\": " + status + ", \"body\": " + (text.isEmpty() ? "null" : text) + "}");
    }

    private static HttpRequest.Builder to(String path) {
        return HttpRequest.newBuilder(URI.create(base + path)).timeout(Duration.ofSeconds(20));
    }

    private static void httpClient() throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        List<HttpRequest> requests = new ArrayList<>();
        List<String> steps = new ArrayList<>();
        for (int number = 0; number < 5; number++) {
            steps.add("get");
            requests.add(to("/echo?n=" + number).build());
        }
        steps.add("post");
        requests.add(to("/echo").POST(BodyPublishers.ofByteArray(BODY)).build());
        steps.add("chunked");
        requests.add(to("/echo").POST(BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(BODY))).build());
        steps.add("put");
        requests.add(to("/echo").PUT(BodyPublishers.ofString("small")).build());
        steps.add("delete");
        requests.add(to("/echo").DELETE().build());
        steps.add("head");
        requests.add(to("/echo").method("HEAD", BodyPublishers.noBody()).build());
        steps.add("large");
        requests.add(to("/large").build());
        for (int at = 0; at < requests.size(); at++) {
            HttpResponse<byte[]> response = client.send(requests.get(at), BodyHandlers.ofByteArray());
            report(steps.get(at), response.statusCode(), response.body());
        }
        List<CompletableFuture<HttpResponse<byte[]>>> together = new ArrayList<>();
        for (int number = 0; number < 20; number++) {
            together.add(client.sendAsync(to("/echo?n=" + number).build(), BodyHandlers.ofByteArray()));
        }
        for (CompletableFuture<HttpResponse<byte[]>> each : together) {
            report("together", each.join().statusCode(), each.join().body());
        }
    }

    private static void urlConnection() throws Exception {
        for (int number = 0; number < 5; number++) {
            request("get", "GET", "/echo?n=" + number, null, false);
        }
        request("post", "POST", "/echo", BODY, false);
        request("chunked", "POST", "/echo", BODY, true);
        request("put", "PUT", "/echo", "small".getBytes(StandardCharsets.UTF_8), false);
        request("delete", "DELETE", "/echo", null, false);
        request("head", "HEAD", "/echo", null, false);
        request("large", "GET", "/large", null, false);
    }

    private static void request(String step, String method, String path, byte[] body, boolean isChunked) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) URI.create(base + path).toURL().openConnection();
        connection.setRequestMethod(method);
        connection.setReadTimeout(20_000);
        if (body != null) {
            connection.setDoOutput(true);
            if (isChunked) {
                connection.setChunkedStreamingMode(4096);
            } else {
                connection.setFixedLengthStreamingMode(body.length);
            }
            connection.getOutputStream().write(body);
        }
        int status = connection.getResponseCode();
        try (InputStream stream = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            report(step, status, stream == null ? new byte[0] : stream.readAllBytes());
        }
    }

    private static void webSocket() throws Exception {
        CompletableFuture<Integer> closed = new CompletableFuture<>();
        WebSocket.Listener listener = new WebSocket.Listener() {
            private final StringBuilder text = new StringBuilder();
            private int messages;

            @Override
            public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean isLast) {
                text.append(data);
                if (isLast) {
                    report("message", 101, text.toString().getBytes(StandardCharsets.UTF_8));
                    text.setLength(0);
                    messages++;
                    if (messages == 3) {
                        socket.sendClose(WebSocket.NORMAL_CLOSURE, "done");
                    } else {
                        socket.sendText("\"" + messages + "\"", true);
                    }
                }
                socket.request(1);
                return null;
            }

            @Override
            public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
                closed.complete(code);
                return null;
            }

            @Override
            public void onError(WebSocket socket, Throwable error) {
                closed.completeExceptionally(error);
            }
        };
        HttpClient.newHttpClient().newWebSocketBuilder().buildAsync(URI.create(base + "/socket"), listener).join();
        report("closed", closed.join(), new byte[0]);
    }
}
