import java.io.EOFException;
import java.net.URI;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.Callable;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.permission.FsPermission;

/** Prints, a line each, how a file system behaves where Hadoop's FileSystem contract says something. */
public class Behaviours {
    static FileSystem fs;
    static Path root;

    public static void main(String[] arguments) throws Exception {
        fs = FileSystem.get(URI.create(arguments[0]), new Configuration());
        root = new Path(arguments[1]);
        fs.mkdirs(root);
        opening();
        creating();
        renaming();
        removing();
        directories();
        appending();
        describing();
        theRoot();
    }

    static void opening() throws Exception {
        byte[] data = new byte[300_000];
        for (int at = 0; at < data.length; at++) data[at] = (byte) (at * 31 + at / 256);
        write("o/file", data);
        write("o/empty", new byte[0]);
        tell("open absent", () -> fs.open(at("o/none")).read());
        tell("open directory", () -> fs.open(at("o")).read());
        tell("read empty", () -> { try (FSDataInputStream in = fs.open(at("o/empty"))) { return in.read(); } });
        tell("read all", () -> Arrays.equals(read("o/file"), data));
        tell("seek", () -> {
            try (FSDataInputStream in = fs.open(at("o/file"))) {
                byte[] part = new byte[100];
                in.seek(200_000);
                in.readFully(part);
                boolean right = Arrays.equals(part, Arrays.copyOfRange(data, 200_000, 200_100));
                in.seek(5);
                in.readFully(part);
                return right && Arrays.equals(part, Arrays.copyOfRange(data, 5, 105)) && in.getPos() == 105;
            }
        });
        tell("read at a position", () -> {
            try (FSDataInputStream in = fs.open(at("o/file"))) {
                byte[] part = new byte[64];
                in.readFully(299_936, part);
                return Arrays.equals(part, Arrays.copyOfRange(data, 299_936, 300_000)) && in.getPos() == 0;
            }
        });
        tell("read fully behind the end", () -> {
            try (FSDataInputStream in = fs.open(at("o/file"))) {
                in.readFully(299_990, new byte[64]);
                return "read";
            } catch (EOFException error) {
                return "EOFException";
            }
        });
    }

    static void creating() throws Exception {
        write("c/old", "old".getBytes());
        tell("create without overwrite", () -> { fs.create(at("c/old"), false).close(); return "made"; });
        tell("create over", () -> { write("c/old", "new".getBytes()); return new String(read("c/old")); });
        tell("create over directory", () -> { fs.create(at("c"), true).close(); return "made"; });
        tell("create below file", () -> { fs.create(at("c/old/below"), true).close(); return "made"; });
        tell("create makes parents", () -> { write("c/p/q/r", "x".getBytes()); return fs.isDirectory(at("c/p/q")); });
        tell("create new", () -> fs.createNewFile(at("c/fresh")) + " " + fs.createNewFile(at("c/fresh")));
        tell("create without parent", () -> {
            fs.createNonRecursive(at("c/no/parent"), false, 4096, (short) 1, 1 << 20, null).close();
            return "made";
        });
    }

    static void renaming() throws Exception {
        write("r/f", "f".getBytes());
        write("r/g", "g".getBytes());
        write("r/d/x", "x".getBytes());
        fs.mkdirs(at("r/empty"));
        tell("rename absent", () -> fs.rename(at("r/none"), at("r/n")));
        tell("rename onto itself", () -> fs.rename(at("r/f"), at("r/f")));
        tell("rename onto file", () -> fs.rename(at("r/f"), at("r/g")));
        tell("rename below absent", () -> fs.rename(at("r/f"), at("r/no/f")));
        tell("rename below file", () -> fs.rename(at("r/f"), at("r/g/f")));
        tell("rename below itself", () -> fs.rename(at("r/d"), at("r/d/e")));
        tell("rename directory onto file", () -> fs.rename(at("r/d"), at("r/g")));
        tell("rename into directory", () -> fs.rename(at("r/f"), at("r/empty")));
        tell("rename directory into directory", () -> fs.rename(at("r/d"), at("r/empty")));
        tell("rename directory", () -> fs.rename(at("r/empty"), at("r/full")));
        tell("after renames", () -> tree(at("r")));
    }

    static void removing() throws Exception {
        write("d/a/f", "f".getBytes());
        fs.mkdirs(at("d/empty"));
        tell("delete absent", () -> fs.delete(at("d/none"), false));
        tell("delete empty", () -> fs.delete(at("d/empty"), false));
        tell("delete full", () -> fs.delete(at("d/a"), false));
        tell("delete file", () -> fs.delete(at("d/a/f"), true));
        tell("parent of the deleted stays", () -> fs.exists(at("d/a")));
        tell("delete recursively", () -> fs.delete(at("d"), true) + " " + fs.exists(at("d")));
    }

    static void directories() throws Exception {
        tell("mkdirs", () -> fs.mkdirs(at("m/a/b")) + " " + fs.mkdirs(at("m/a/b")) + " " + fs.isDirectory(at("m/a")));
        write("m/f", "f".getBytes());
        tell("mkdirs over file", () -> fs.mkdirs(at("m/f")));
        tell("mkdirs below file", () -> fs.mkdirs(at("m/f/d/e")));
        tell("list", () -> tree(at("m")));
        tell("list file", () -> fs.listStatus(at("m/f")).length + " " + fs.listStatus(at("m/f"))[0].getPath().getName());
        tell("list absent", () -> fs.listStatus(at("m/none")).length);
        tell("list empty", () -> fs.listStatus(at("m/a/b")).length);
        tell("glob", () -> fs.globStatus(at("m/*")).length + " " + fs.globStatus(at("m/?")).length);
        tell("locations", () -> fs.getFileBlockLocations(fs.getFileStatus(at("m/f")), 0, 1).length);
        tell("summary", () -> fs.getContentSummary(at("m")).getFileCount() + " " + fs.getContentSummary(at("m")).getDirectoryCount());
    }

    static void appending() throws Exception {
        write("a/f", "one".getBytes());
        tell("append absent", () -> { fs.append(at("a/none")).close(); return "opened"; });
        tell("append directory", () -> { fs.append(at("a")).close(); return "opened"; });
        tell("append", () -> {
            try (FSDataOutputStream out = fs.append(at("a/f"))) { out.write(" two".getBytes()); }
            try (FSDataOutputStream out = fs.append(at("a/f"))) { out.write(" three".getBytes()); }
            return new String(read("a/f"));
        });
    }

    static void describing() throws Exception {
        write("s/f", "12345".getBytes());
        FileStatus status = fs.getFileStatus(at("s/f"));
        tell("status", () -> status.getLen() + " " + status.isFile() + " " + status.isDirectory() + " " + status.isSymlink());
        tell("status absent", () -> fs.getFileStatus(at("s/none")).getLen());
        tell("permission", () -> { fs.setPermission(at("s/f"), new FsPermission((short) 0640)); return fs.getFileStatus(at("s/f")).getPermission(); });
        tell("times", () -> { fs.setTimes(at("s/f"), 1_234_567_890_000L, -1); return fs.getFileStatus(at("s/f")).getModificationTime(); });
        tell("owner", () -> { fs.setOwner(at("s/f"), "ann", "staff"); return fs.getFileStatus(at("s/f")).getOwner() + " " + fs.getFileStatus(at("s/f")).getGroup(); });
        tell("xattr", () -> { fs.setXAttr(at("s/f"), "user.k", "v".getBytes()); return new String(fs.getXAttr(at("s/f"), "user.k")); });
        tell("checksum", () -> fs.getFileChecksum(at("s/f")));
        tell("still there", () -> new String(read("s/f")));
    }

    static void theRoot() throws Exception {
        tell("root is a directory", () -> fs.getFileStatus(new Path("/")).isDirectory());
        tell("mkdirs of the root", () -> fs.mkdirs(new Path("/")));
        tell("create over the root", () -> { fs.create(new Path("/"), true).close(); return "made"; });
    }

    static Path at(String name) {
        return new Path(root, name);
    }

    static void write(String name, byte[] data) throws Exception {
        try (FSDataOutputStream out = fs.create(at(name), true)) { out.write(data); }
    }

    static byte[] read(String name) throws Exception {
        try (FSDataInputStream in = fs.open(at(name))) {
            byte[] data = new byte[(int) fs.getFileStatus(at(name)).getLen()];
            in.readFully(data);
            return data;
        }
    }

    static String tree(Path path) throws Exception {
        List<String> found = new ArrayList<>();
        for (FileStatus one : fs.listStatus(path)) {
            found.add(one.getPath().getName() + (one.isDirectory() ? "/" + tree(one.getPath()) : ""));
        }
        Collections.sort(found);
        return found.toString();
    }

    static void tell(String what, Callable<Object> done) {
        String told;
        try {
            told = String.valueOf(done.call());
        } catch (Exception error) {
            told = error.getClass().getSimpleName();
        }
        System.out.println(what + ": " + told);
    }
}
