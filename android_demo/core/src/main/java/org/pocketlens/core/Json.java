package org.pocketlens.core;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Reads and writes JSON: maps, lists, text, doubles, booleans and null. */
final class Json {
    private static final int DEEPEST = 64;

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /**
     * Returns the value that a text is.
     *
     * @throws IllegalArgumentException where it is no JSON
     */
    static Object parse(String text) {
        Json reader = new Json(text);
        Object value = reader.readValue(0);
        reader.skipSpace();
        if (reader.at != text.length()) {
            throw reader.fail("ends early");
        }
        return value;
    }

    /** Returns text of a value of maps, lists, text, numbers, booleans and null. */
    static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(value, out);
        return out.toString();
    }

    private static void write(Object value, StringBuilder out) {
        if (value instanceof Map) {
            String before = "{";
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                out.append(before);
                quote(entry.getKey().toString(), out);
                out.append(": ");
                write(entry.getValue(), out);
                before = ", ";
            }
            out.append(before.equals("{") ? "{}" : "}");
        } else if (value instanceof List) {
            String before = "[";
            for (Object each : (List<?>) value) {
                out.append(before);
                write(each, out);
                before = ", ";
            }
            out.append(before.equals("[") ? "[]" : "]");
        } else if (value instanceof String) {
            quote((String) value, out);
        } else {
            out.append(value);
        }
    }

    private static void quote(String text, StringBuilder out) {
        out.append('"');
        for (char each : text.toCharArray()) {
            if (each == '"' || each == '\\') {
                out.append('\\').append(each);
            } else if (each < ' ') {
                out.append(String.format("\\u%04x", (int) each));
            } else {
                out.append(each);
            }
        }
        out.append('"');
    }

    private Object readValue(int depth) {
        if (depth > DEEPEST) {
            throw fail("is nested too deeply");
        }
        skipSpace();
        char first = peek();
        if (first == '{') {
            return readObject(depth);
        }
        if (first == '[') {
            return readArray(depth);
        }
        if (first == '"') {
            return readText();
        }
        if (first == 't') {
            return readWord("true", Boolean.TRUE);
        }
        if (first == 'f') {
            return readWord("false", Boolean.FALSE);
        }
        return first == 'n' ? readWord("null", null) : readNumber();
    }

    private Map<String, Object> readObject(int depth) {
        Map<String, Object> found = new LinkedHashMap<>();
        at++;
        skipSpace();
        if (peek() == '}') {
            at++;
            return found;
        }
        do {
            skipSpace();
            String name = readText();
            skipSpace();
            expect(':');
            found.put(name, readValue(depth + 1));
            skipSpace();
        } while (takeComma());
        expect('}');
        return found;
    }

    private List<Object> readArray(int depth) {
        List<Object> found = new ArrayList<>();
        at++;
        skipSpace();
        if (peek() == ']') {
            at++;
            return found;
        }
        do {
            found.add(readValue(depth + 1));
            skipSpace();
        } while (takeComma());
        expect(']');
        return found;
    }

    private String readText() {
        expect('"');
        StringBuilder found = new StringBuilder();
        for (char each = next(); each != '"'; each = next()) {
            found.append(each == '\\' ? readEscaped() : each);
        }
        return found.toString();
    }

    private char readEscaped() {
        char kind = next();
        int known = "\"\\/bfnrt".indexOf(kind);
        if (known >= 0) {
            return "\"\\/\b\f\n\r\t".charAt(known);
        }
        if (kind != 'u' || at + 4 > text.length()) {
            throw fail("holds an unknown escape");
        }
        at += 4;
        try {
            return (char) Integer.parseInt(text.substring(at - 4, at), 16);
        } catch (NumberFormatException error) {
            throw fail("holds an unknown escape");
        }
    }

    private Double readNumber() {
        int start = at;
        while (at < text.length() && "+-.0123456789eE".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
        try {
            return Double.valueOf(text.substring(start, at));
        } catch (NumberFormatException error) {
            throw fail("holds what is no value");
        }
    }

    private Object readWord(String word, Object value) {
        if (!text.startsWith(word, at)) {
            throw fail("holds what is no value");
        }
        at += word.length();
        return value;
    }

    private boolean takeComma() {
        if (peek() != ',') {
            return false;
        }
        at++;
        return true;
    }

    private void expect(char wanted) {
        if (next() != wanted) {
            throw fail("lacks a " + wanted);
        }
    }

    private char peek() {
        return at < text.length() ? text.charAt(at) : '\0';
    }

    private char next() {
        if (at >= text.length()) {
            throw fail("ends early");
        }
        return text.charAt(at++);
    }

    private void skipSpace() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private IllegalArgumentException fail(String why) {
        return new IllegalArgumentException("the JSON " + why + " at character " + at);
    }
}
