package android.content;

import java.io.File;
import java.lang.reflect.Field;
import java.util.HashMap;
import java.util.Map;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/** Numbers and names of the app's resources, and its texts. */
public final class Resources {
    public static File layouts;
    public static File texts;

    /** Returns what a kind of resources (layout, id, string) has, by name. */
    public static Map<String, Integer> of(String kind) {
        Map<String, Integer> found = new HashMap<>();
        try {
            for (Field field : Class.forName("org.pocketlens.demo.R$" + kind).getFields()) {
                found.put(field.getName(), field.getInt(null));
            }
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
        return found;
    }

    /** Returns the name of a number. */
    public static String name(String kind, int id) {
        for (Map.Entry<String, Integer> each : of(kind).entrySet()) {
            if (each.getValue() == id) {
                return each.getKey();
            }
        }
        throw new IllegalArgumentException("no " + kind + " " + id);
    }

    public static Element parse(File file) {
        try {
            DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
            factory.setNamespaceAware(true);
            return factory.newDocumentBuilder().parse(file).getDocumentElement();
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    static String text(int id) {
        String wanted = name("string", id);
        NodeList texts = parse(Resources.texts).getElementsByTagName("string");
        for (int i = 0; i < texts.getLength(); i++) {
            Element text = (Element) texts.item(i);
            if (text.getAttribute("name").equals(wanted)) {
                return text.getTextContent();
            }
        }
        throw new IllegalArgumentException(wanted);
    }
}
