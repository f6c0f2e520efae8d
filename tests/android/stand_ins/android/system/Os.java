package android.system;

import java.util.HashMap;
import java.util.Map;

public final class Os {
    public static final Map<String, String> SET = new HashMap<>();

    public static void setenv(String name, String value, boolean overwrite) throws ErrnoException {
        SET.put(name, value);
    }
}
