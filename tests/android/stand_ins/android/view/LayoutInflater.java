package android.view;

import android.content.Resources;
import java.io.File;
import java.util.Map;
import org.w3c.dom.Element;
import org.w3c.dom.Node;
import org.w3c.dom.NodeList;

/** Makes views of the app's own layout files. */
public class LayoutInflater {
    private static final String ANDROID = "http://schemas.android.com/apk/res/android";
    private final Map<String, Integer> ids = Resources.of("id");

    public View inflate(int layout, ViewGroup parent, boolean attach) {
        String name = Resources.name("layout", layout);
        return make(Resources.parse(new File(Resources.layouts, name + ".xml")));
    }

    private View make(Element element) {
        View view;
        try {
            String name = "android.widget." + element.getTagName();
            view = (View) Class.forName(name).getConstructor().newInstance();
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
        String id = element.getAttributeNS(ANDROID, "id");
        if (id.startsWith("@+id/")) {
            view.id = ids.get(id.substring(5));
        }
        NodeList children = element.getChildNodes();
        for (int i = 0; i < children.getLength(); i++) {
            if (children.item(i).getNodeType() == Node.ELEMENT_NODE) {
                ((ViewGroup) view).children.add(make((Element) children.item(i)));
            }
        }
        return view;
    }
}
