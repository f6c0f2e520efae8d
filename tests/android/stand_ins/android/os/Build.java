package android.os;

public class Build {
    public static final String MANUFACTURER = System.getProperty("maker", "no maker");
    public static final String MODEL = System.getProperty("model", "JVM");

    public static class VERSION {
        public static final int SDK_INT = Integer.getInteger("sdk", 24);
        public static final String RELEASE = System.getProperty("release", "none");
    }
}
