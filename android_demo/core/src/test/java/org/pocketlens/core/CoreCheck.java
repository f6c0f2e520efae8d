package org.pocketlens.core;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;

/** Does what the tests ask by name, and prints what comes of it. */
public final class CoreCheck {
    public static void main(String[] given) throws Exception {
        try {
            System.out.println(run(given));
        } catch (LensException | IllegalArgumentException error) {
            System.out.println("refused: " + error.getMessage());
        }
    }

    private static String run(String[] given) throws Exception {
        switch (given[0]) {
            case "json":
                return Json.write(Json.parse(readText(given[1])));
            case "scales":
                return scales(given);
            case "reduce":
                return show(EncodePhotos.readPpm(Paths.get(given[1])).reduced(number(given[2])));
            case "upright":
                return show(EncodePhotos.readPpm(Paths.get(given[1])).upright(number(given[2])));
            case "white":
                return show(Photo.ofArgb(new int[] {0x00112233, 0x80ff0000, 0xff010203}, 3, 1));
            case "kept":
                return Photo.keptSide(number(given[1]), number(given[2])) + "";
            case "preview":
                return show(EncodePhotos.readPpm(Paths.get(given[1])).preview(number(given[2])));
            case "probe":
                return show(Photo.probe());
            case "choose":
                return choose(given);
            case "search":
                return search(given);
            case "improve":
                return improve(Paths.get(given[1]), Double.parseDouble(given[2]));
            default:
                return record(Paths.get(given[1]));
        }
    }

    private static String scales(String[] given) {
        StringBuilder found = new StringBuilder();
        for (int i = 1; i < given.length; i += 4) {
            found.append(Photo.chooseScale(number(given[i]), number(given[i + 1]),
                    number(given[i + 2]), Double.parseDouble(given[i + 3]), 3)).append(' ');
        }
        return found.toString();
    }

    private static String choose(String[] given) throws Exception {
        Map<String, Double> measured = new HashMap<>();
        for (int i = 3; i < given.length; i += 2) {
            measured.put(given[i], Double.valueOf(given[i + 1]));
        }
        Card card = Card.read(readText(given[1]));
        Choice choice = Choice.choose(card.entries, measured, Double.parseDouble(given[2]));
        return name(choice.use) + " " + name(choice.next);
    }

    private static String search(String[] given) throws Exception {
        float[] vector = new float[number(given[3])];
        vector[0] = 1;
        SearchClient client = new SearchClient(given[1], 5000);
        StringBuilder found = new StringBuilder();
        for (SearchClient.Answer answer : client.search(vector, given[2], number(given[4]))) {
            found.append(answer.id).append(' ').append(answer.score).append(' ');
            found.append(Json.write(answer.metadata)).append('\n');
            byte[] thumbnail = client.thumbnail(answer.id);
            found.append(thumbnail == null ? "none" : thumbnail.length > 100).append('\n');
        }
        return found.append(client.sentBytes()).toString();
    }

    /** Goes through a bundle's encoders as the app does; prints which is in use, and what is known. */
    private static String improve(final Path bundle, double budget) throws Exception {
        Map<String, Double> measured = new LinkedHashMap<>();
        try (Encoders encoders = openBundle(bundle, measured)) {
            QueryEncoder first = encoders.open(budget);
            String before = encoders.current().file;
            encoders.improve(Photo.probe(), budget);
            QueryEncoder now = encoders.open(budget);
            Map<String, Object> known = new LinkedHashMap<>();
            for (Map.Entry<String, Double> each : measured.entrySet()) {
                known.put(each.getKey(), each.getValue().isNaN() ? null : each.getValue());
            }
            boolean same = first == now;
            return before + "\n" + encoders.current().file + "\n" + same + "\n" + Json.write(known);
        }
    }

    private static String record(Path bundle) throws Exception {
        try (Encoders encoders = openBundle(bundle, new HashMap<String, Double>())) {
            LatencyRecord record = new LatencyRecord();
            encoders.open(50);
            for (int i = 1; i <= 100; i++) {
                record.add("decode", i);
                record.add("network", 2 * i);
            }
            record.addCold("load", 12.5);
            return record.write("a \"phone\"", encoders.current(), 4, "drawn");
        }
    }

    private static Encoders openBundle(final Path bundle, Map<String, Double> measured)
            throws LensException {
        return new Encoders(name -> Files.readAllBytes(bundle.resolve(name)), measured);
    }

    private static String show(Photo photo) {
        StringBuilder found = new StringBuilder(photo.width + " " + photo.height);
        for (byte value : photo.rgb) {
            found.append(' ').append(value & 255);
        }
        return found.toString();
    }

    private static String name(Card.Entry entry) {
        return entry == null ? "none" : entry.encoder;
    }

    private static int number(String text) {
        return Integer.parseInt(text);
    }

    private static String readText(String file) throws Exception {
        return new String(Files.readAllBytes(Paths.get(file)), StandardCharsets.UTF_8);
    }
}
