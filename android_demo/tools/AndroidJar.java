import jadx.api.JadxArgs;
import jadx.core.clsp.ClsSet;
import jadx.core.clsp.ClspClass;
import jadx.core.clsp.ClspMethod;
import jadx.core.dex.instructions.args.ArgType;
import jadx.core.dex.nodes.RootNode;
import java.io.IOException;
import java.lang.reflect.Field;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;

/**
 * Writes an android.jar to compile against, of the platform's classes that jadx carries.
 *
 * <p>Their methods have exact descriptors and no bodies; jadx knows no fields, so that the few that
 * are used are listed in a file: class, name, descriptor, and the value of a constant.
 *
 * <pre>java AndroidJar FIELDS JAR</pre>
 */
public final class AndroidJar {
    private static final int ABSTRACT = Opcodes.ACC_ABSTRACT;

    private final Map<String, List<String[]>> fields = new HashMap<>();
    private final Set<String> interfaces = new HashSet<>();
    private final Map<String, List<String>> inner = new HashMap<>();
    private final ClspClass[] classes;

    private AndroidJar(ClspClass[] classes, List<String> fieldLines) {
        this.classes = classes;
        for (String line : fieldLines) {
            String[] parts = line.trim().split("\\s+", 4);
            fields.computeIfAbsent(parts[0], name -> new ArrayList<>()).add(parts);
        }
        for (ClspClass each : classes) {
            String name = each.getName().replace('.', '/');
            for (int i = 1; i < each.getParents().length; i++) {
                interfaces.add(nameOf(each.getParents()[i]));
            }
            if (looksLikeInterface(each)) {
                interfaces.add(name);
            }
            int dollar = name.lastIndexOf('$');
            if (dollar > 0) {
                inner.computeIfAbsent(name.substring(0, dollar), outer -> new ArrayList<>()).add(name);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        ClsSet set = new ClsSet(new RootNode(new JadxArgs()));
        set.loadFromClstFile();
        Field held = ClsSet.class.getDeclaredField("classes");
        held.setAccessible(true);
        List<String> lines = Files.readAllLines(Path.of(arguments[0]));
        new AndroidJar((ClspClass[]) held.get(set), lines).write(Path.of(arguments[1]));
    }

    private void write(Path jar) throws IOException {
        try (ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(jar))) {
            for (ClspClass each : classes) {
                String name = each.getName().replace('.', '/');
                if (name.startsWith("android/") || name.startsWith("org/xmlpull/")) {
                    out.putNextEntry(new ZipEntry(name + ".class"));
                    out.write(makeClass(each, name));
                }
            }
        }
    }

    /** Whether all methods are abstract but for static ones, and there is no constructor. */
    private static boolean looksLikeInterface(ClspClass source) {
        boolean anyAbstract = false;
        for (ClspMethod method : source.getSortedMethodsList()) {
            int access = method.getRawAccessFlags();
            anyAbstract |= (access & ABSTRACT) != 0;
            boolean bare = (access & (ABSTRACT | Opcodes.ACC_STATIC)) != 0;
            if (!bare || method.getMethodInfo().getName().equals("<init>")) {
                return false;
            }
        }
        return anyAbstract;
    }

    private byte[] makeClass(ClspClass source, String name) {
        boolean isInterface = interfaces.contains(name);
        boolean anyAbstract = source.getSortedMethodsList().stream()
                .anyMatch(method -> (method.getRawAccessFlags() & ABSTRACT) != 0);
        ArgType[] parents = source.getParents();
        String[] implemented = new String[Math.max(0, parents.length - 1)];
        for (int i = 0; i < implemented.length; i++) {
            implemented[i] = nameOf(parents[i + 1]);
        }
        boolean plain = isInterface || parents.length == 0;
        String parent = plain ? "java/lang/Object" : nameOf(parents[0]);
        int kind = isInterface ? Opcodes.ACC_INTERFACE | ABSTRACT
                : Opcodes.ACC_SUPER | (anyAbstract ? ABSTRACT : 0);
        ClassWriter writer = new ClassWriter(0);
        writer.visit(Opcodes.V1_8, Opcodes.ACC_PUBLIC | kind, name, null, parent, implemented);
        nameNested(writer, name, isInterface);
        for (String[] field : fields.getOrDefault(name, List.of())) {
            addField(writer, field);
        }
        for (ClspMethod method : source.getSortedMethodsList()) {
            addMethod(writer, method, isInterface);
        }
        writer.visitEnd();
        return writer.toByteArray();
    }

    private void nameNested(ClassWriter writer, String name, boolean isInterface) {
        int shared = Opcodes.ACC_PUBLIC | Opcodes.ACC_STATIC;
        int ofInterface = Opcodes.ACC_INTERFACE | ABSTRACT;
        String[] parts = name.split("\\$");
        String outer = parts[0];
        for (int i = 1; i < parts.length; i++) {
            String nested = outer + "$" + parts[i];
            boolean last = i == parts.length - 1;
            int access = shared | (last && isInterface ? ofInterface : 0);
            writer.visitInnerClass(nested, outer, parts[i], access);
            outer = nested;
        }
        for (String nested : inner.getOrDefault(name, List.of())) {
            int access = shared | (interfaces.contains(nested) ? ofInterface : 0);
            writer.visitInnerClass(nested, name, nested.substring(name.length() + 1), access);
        }
    }

    private static void addField(ClassWriter writer, String[] field) {
        boolean constant = field.length > 3;
        boolean isStatic = constant || field[1].equals(field[1].toUpperCase());
        int access = Opcodes.ACC_PUBLIC
                | (isStatic ? Opcodes.ACC_STATIC | Opcodes.ACC_FINAL : 0);
        Object value = null;
        if (constant) {
            value = field[2].equals("I") ? (Object) Integer.valueOf(field[3]) : field[3];
        }
        writer.visitField(access, field[1], field[2], null, value).visitEnd();
    }

    private static void addMethod(ClassWriter writer, ClspMethod method, boolean isInterface) {
        String id = method.getMethodInfo().getShortId();
        String name = id.substring(0, id.indexOf('('));
        int access = method.getRawAccessFlags() & 0xffff;
        if (name.equals("<clinit>") || (access & Opcodes.ACC_SYNTHETIC) != 0) {
            return;
        }
        int visible = Opcodes.ACC_PUBLIC | Opcodes.ACC_PRIVATE | Opcodes.ACC_PROTECTED;
        if (isInterface && (access & visible) == 0) {
            access |= Opcodes.ACC_PUBLIC;
        }
        access &= ~(Opcodes.ACC_SYNCHRONIZED | Opcodes.ACC_NATIVE);
        String[] thrown = method.getThrows().stream()
                .map(type -> type.toString().replace('.', '/')).toArray(String[]::new);
        String descriptor = id.substring(name.length());
        MethodVisitor visitor = writer.visitMethod(access, name, descriptor, null, thrown);
        if ((access & ABSTRACT) == 0) {
            visitor.visitCode();
            visitor.visitInsn(Opcodes.ACONST_NULL);
            visitor.visitInsn(Opcodes.ATHROW);
            visitor.visitMaxs(1, 16);
        }
        visitor.visitEnd();
    }

    private static String nameOf(ArgType type) {
        return (type.isGeneric() ? type.getObject() : type.toString()).replace('.', '/');
    }
}
