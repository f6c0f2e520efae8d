package org.pocketlens.core;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLEncoder;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Asks a search service with a vector: the only thing of a picture that leaves the device. */
public final class SearchClient {
    /** One answer. */
    public static final class Answer {
        public final String id;
        /** The cosine to the query. */
        public final double score;
        public final Map<String, Object> metadata;

        Answer(String id, double score, Map<String, Object> metadata) {
            this.id = id;
            this.score = score;
            this.metadata = metadata;
        }
    }

    private static final int MOST_BYTES = 8 << 20;
    private static final String BASE64 =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    private final String root;
    private final int timeoutMs;
    private int sentBytes;

    /**
     * Names the service.
     *
     * @param address as http://192.168.0.10:8000
     */
    public SearchClient(String address, int timeoutMs) throws LensException {
        String trimmed = address.trim().replaceAll("/+$", "");
        try {
            String protocol = new URL(trimmed).getProtocol();
            if (!protocol.equals("http") && !protocol.equals("https")) {
                throw new MalformedURLException(protocol);
            }
        } catch (MalformedURLException error) {
            throw new LensException("not an address, as http://192.168.0.10:8000: " + trimmed, error);
        }
        root = trimmed;
        this.timeoutMs = timeoutMs;
    }

    /** Returns the nearest items of the database, the best first. */
    public List<Answer> search(float[] vector, String space, int count) throws LensException {
        Map<String, Object> asked = new LinkedHashMap<>();
        asked.put("vector", encodeVector(vector));
        asked.put("space", space);
        asked.put("k", count);
        byte[] body = Json.write(asked).getBytes(StandardCharsets.UTF_8);
        sentBytes = body.length;
        String text = new String(ask("/v1/search", body), StandardCharsets.UTF_8);
        try {
            List<Answer> found = new ArrayList<>();
            for (Object each : (List<?>) ((Map<?, ?>) Json.parse(text)).get("answers")) {
                found.add(readAnswer((Map<?, ?>) each));
            }
            return found;
        } catch (IllegalArgumentException | ClassCastException | NullPointerException error) {
            throw new LensException("the server's answer is not of a search service", error);
        }
    }

    /** Returns how many bytes the last search sent. */
    public int sentBytes() {
        return sentBytes;
    }

    /** Returns a small picture of an item, JPEG; null where the server gives none. */
    public byte[] thumbnail(String id) {
        try {
            return ask("/v1/thumbnail?id=" + URLEncoder.encode(id, "UTF-8"), null);
        } catch (LensException | IOException error) {
            return null;
        }
    }

    private static Answer readAnswer(Map<?, ?> value) {
        Map<String, Object> metadata = new LinkedHashMap<>();
        for (Map.Entry<?, ?> each : ((Map<?, ?>) value.get("metadata")).entrySet()) {
            metadata.put((String) each.getKey(), each.getValue());
        }
        String id = (String) value.get("id");
        if (id == null) {
            throw new IllegalArgumentException("an answer without an id");
        }
        return new Answer(id, (Double) value.get("score"), metadata);
    }

    private byte[] ask(String path, byte[] body) throws LensException {
        HttpURLConnection connection = null;
        try {
            connection = (HttpURLConnection) new URL(root + path).openConnection();
            connection.setConnectTimeout(timeoutMs);
            connection.setReadTimeout(timeoutMs);
            if (body != null) {
                connection.setDoOutput(true);
                connection.setFixedLengthStreamingMode(body.length);
                connection.setRequestProperty("Content-Type", "application/json");
                connection.getOutputStream().write(body);
            }
            int status = connection.getResponseCode();
            if (status != HttpURLConnection.HTTP_OK) {
                throw explain(status, readAll(connection.getErrorStream()));
            }
            return readAll(connection.getInputStream());
        } catch (IOException error) {
            throw new LensException("the search server " + root + " does not answer", error);
        } finally {
            if (connection != null) {
                connection.disconnect();
            }
        }
    }

    private static LensException explain(int status, byte[] answer) {
        String detail = "";
        try {
            Object told = Json.parse(new String(answer, StandardCharsets.UTF_8));
            detail = String.valueOf(((Map<?, ?>) told).get("detail"));
        } catch (IllegalArgumentException | ClassCastException | NullPointerException error) {
            // Not of our service: the status is all there is.
        }
        if (status == HttpURLConnection.HTTP_CONFLICT) {
            return new LensException(
                    "the database does not understand this app's encoder (" + detail
                            + "): build the app with the bundle that belongs to the index");
        }
        if (status == 429 || status == HttpURLConnection.HTTP_UNAVAILABLE) {
            return new LensException("the search server is busy; try again");
        }
        return new LensException("the search server refuses (" + status + "): " + detail);
    }

    private static byte[] readAll(InputStream in) throws IOException {
        ByteArrayOutputStream found = new ByteArrayOutputStream();
        byte[] part = new byte[1 << 14];
        for (int n = 0; in != null && n >= 0; n = in.read(part)) {
            found.write(part, 0, n);
            if (found.size() > MOST_BYTES) {
                throw new IOException("an answer of more than " + MOST_BYTES + " bytes");
            }
        }
        return found.toByteArray();
    }

    /** Returns base64 of little-endian float32 (java.util.Base64 needs a later Android than 24). */
    static String encodeVector(float[] vector) {
        ByteBuffer bytes = ByteBuffer.allocate(4 * vector.length).order(ByteOrder.LITTLE_ENDIAN);
        for (float value : vector) {
            bytes.putFloat(value);
        }
        byte[] data = bytes.array();
        StringBuilder text = new StringBuilder(data.length * 4 / 3 + 4);
        for (int i = 0; i < data.length; i += 3) {
            int left = Math.min(3, data.length - i);
            int bits = 0;
            for (int j = 0; j < 3; j++) {
                bits = bits << 8 | (j < left ? data[i + j] & 255 : 0);
            }
            for (int j = 0; j < 4; j++) {
                text.append(j <= left ? BASE64.charAt(bits >> (18 - 6 * j) & 63) : '=');
            }
        }
        return text.toString();
    }
}
