package android.widget;

import android.view.View;

public class TextView extends View {
    protected String text = "";

    public void setText(CharSequence text) {
        this.text = String.valueOf(text);
    }

    public CharSequence getText() {
        return text;
    }
}
