package android.content;

import android.net.Uri;
import android.os.Parcelable;
import java.util.HashMap;
import java.util.Map;

public class Intent {
    public final String action;
    public final Map<String, Object> extras = new HashMap<>();
    public String type = "";
    public int request;
    public int flags;
    public Uri data;
    public Intent chosen;

    public Intent() {
        this("");
    }

    public Intent(String action) {
        this.action = action;
    }

    public Intent setType(String type) {
        this.type = type;
        return this;
    }

    public Intent addCategory(String category) {
        return this;
    }

    public Intent addFlags(int flags) {
        this.flags |= flags;
        return this;
    }

    public void setClipData(ClipData data) {}

    public Intent putExtra(String name, Parcelable value) {
        extras.put(name, value);
        return this;
    }

    public Intent putExtra(String name, String value) {
        extras.put(name, value);
        return this;
    }

    public Uri getData() {
        return data;
    }

    public static Intent createChooser(Intent chosen, CharSequence title) {
        Intent chooser = new Intent("chooser");
        chooser.chosen = chosen;
        return chooser;
    }
}
