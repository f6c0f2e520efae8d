package android.content;

import android.content.res.AssetManager;
import java.io.File;

public class Context {
    public static final int MODE_PRIVATE = 0;
    public final ContentResolver resolver = new ContentResolver();

    public ContentResolver getContentResolver() {
        return resolver;
    }

    public AssetManager getAssets() {
        return new AssetManager();
    }

    public SharedPreferences getSharedPreferences(String name, int mode) {
        return SharedPreferences.KEPT;
    }

    public File getCacheDir() {
        return new File(System.getProperty("java.io.tmpdir"));
    }

    public final String getString(int id) {
        return Resources.text(id);
    }

    public final String getString(int id, Object... values) {
        return String.format(Resources.text(id), values);
    }
}
