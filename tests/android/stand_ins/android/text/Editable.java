package android.text;

public abstract class Editable implements CharSequence {
    @Override
    public int length() {
        return toString().length();
    }

    @Override
    public char charAt(int at) {
        return toString().charAt(at);
    }

    @Override
    public CharSequence subSequence(int from, int to) {
        return toString().subSequence(from, to);
    }
}
