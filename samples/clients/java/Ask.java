// Asks a question about a picture and prints the answer as it comes. Java 17 or newer, nothing to install.
//
//     TUWEN_API_KEY=sk-tw-… java Ask.java PICTURE QUESTION [MODEL]
//
// Java's own library has no JSON; what little is needed is written below. A real program would use Jackson or Gson.

import java.io.IOException;
import java.io.PrintStream;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Iterator;
import java.util.stream.Stream;

public class Ask {
    private static final String BASE_URL =
        System.getenv().getOrDefault("TUWEN_BASE_URL", "http://127.0.0.1:8000/v1");
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    public static void main(String[] args) throws InterruptedException {
        if (args.length < 2) {
            fail("usage: java Ask.java PICTURE QUESTION [MODEL]");
        }
        try {
            ask(args);
        } catch (NoSuchFileException missing) {
            fail("no such file: " + missing.getMessage());
        } catch (ConnectException refused) {
            fail("nothing answers at " + BASE_URL);
        } catch (IOException failure) {
            fail(failure.toString());
        }
    }

    private static void ask(String[] args) throws IOException, InterruptedException {
        String model = args.length > 2 ? args[2] : "local-ocr-vision";
        String data = Base64.getEncoder().encodeToString(Files.readAllBytes(Path.of(args[0])));
        // Tuwen looks at the bytes, so the label need not fit.
        String body = """
            {"model": %s, "stream": true, "messages": [{"role": "user", "content": [
                {"type": "text", "text": %s},
                {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,%s"}}]}]}
            """.formatted(quoted(model), quoted(args[1]), data);
        HttpRequest request = HttpRequest.newBuilder(URI.create(BASE_URL + "/chat/completions"))
            .header("Content-Type", "application/json")
            .header("Authorization", "Bearer " + System.getenv("TUWEN_API_KEY"))
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpResponse<Stream<String>> response =
            HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofLines());
        try (Stream<String> lines = response.body()) {
            if (response.statusCode() != 200) {
                String refusal = String.join("", lines.toList());
                fail(response.statusCode() + ": " + stringField(refusal, "message"));
            }
            if (!printAnswer(lines.iterator())) {
                System.exit(1);
            }
        }
    }

    private static void fail(String message) {
        System.err.println(message);
        System.exit(1);
    }

    private static boolean printAnswer(Iterator<String> lines) {
        while (lines.hasNext()) {
            String line = lines.next();
            if (!line.startsWith("data: ")) {
                continue; // empty lines, and comments that keep the connection awake
            }
            if (line.equals("data: [DONE]")) {
                OUT.println();
                return true;
            }
            if (line.startsWith("data: {\"error\"")) {
                System.err.println("\n" + stringField(line, "message"));
                return false;
            }
            OUT.print(stringField(line, "content"));
            OUT.flush();
        }
        System.err.println("\nthe answer was cut short");
        return false;
    }

    private static String quoted(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }

    /** The first string of this name in a JSON text; empty where there is none. */
    private static String stringField(String json, String name) {
        int colon = json.indexOf("\"" + name + "\":");
        if (colon < 0) {
            return "";
        }
        int at = colon + name.length() + 3;
        while (json.charAt(at) == ' ') {
            at++;
        }
        if (json.charAt(at) != '"') {
            return ""; // null
        }
        StringBuilder text = new StringBuilder();
        for (at++; json.charAt(at) != '"'; at++) {
            char c = json.charAt(at);
            if (c != '\\') {
                text.append(c);
                continue;
            }
            char escaped = json.charAt(++at);
            switch (escaped) {
                case 'n' -> text.append('\n');
                case 't' -> text.append('\t');
                case 'r' -> text.append('\r');
                case 'b' -> text.append('\b');
                case 'f' -> text.append('\f');
                case 'u' -> {
                    text.append((char) Integer.parseInt(json.substring(at + 1, at + 5), 16));
                    at += 4;
                }
                default -> text.append(escaped);
            }
        }
        return text.toString();
    }
}
