// Tour.java STREAM
//
// What a program in Java has to know of pgjdbc to work with eventstore. It appends to
// STREAM, which must be new, and prints a line for each step; the programs in the other
// languages print the same. PGHOST, PGPORT, PGDATABASE and PGUSER say where the server is,
// which has to listen for TCP. Explained in doc/applications.md.
//
// java -cp /usr/share/java/postgresql.jar Tour.java STREAM
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.OffsetDateTime;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.postgresql.util.PSQLException;

public class Tour {
	// stringtype=unspecified: the server decides what a string is, such as jsonb or interval.
	// Without it jsonb needs a cast in the statement, ?::jsonb.
	static Connection connect() throws SQLException {
		String url = String.format("jdbc:postgresql://%s:%s/%s?user=%s&stringtype=unspecified", System.getenv("PGHOST"),
			System.getenv("PGPORT"), System.getenv("PGDATABASE"), System.getenv("PGUSER"));
		// behind a pool that does not keep prepared statements
		if ("no".equals(System.getenv("PREPARE"))) url += "&prepareThreshold=0";
		// Autocommit is what JDBC begins with: each statement is a transaction.
		return DriverManager.getConnection(url);
	}

	static Connection db;

	// one value of one row
	static <T> T value(Class<T> type, String statement, Object... values) throws SQLException {
		try (PreparedStatement prepared = db.prepareStatement(statement)) {
			for (int i = 0; i < values.length; i++) prepared.setObject(i + 1, values[i]);
			try (ResultSet rows = prepared.executeQuery()) {
				rows.next();
				return rows.getObject(1, type);
			}
		}
	}

	static long version(String statement, Object... values) throws SQLException {
		return value(Long.class, statement, values);
	}

	static Matcher detail(PSQLException error, String pattern) {
		Matcher matcher = Pattern.compile(pattern, Pattern.DOTALL).matcher(error.getServerErrorMessage().getDetail());
		if (!matcher.matches()) throw new IllegalStateException(error);
		return matcher;
	}

	public static void main(String[] arguments) throws SQLException {
		String stream = arguments[0];
		db = connect();

		// Arguments by name, where there are many: those left out have their defaults.
		System.out.println("version " + version(
			"SELECT es_append(?, 'Opened', ?, metadata => ?, expected_version => ?)",
			stream, "{\"owner\": \"ann\"}", "{\"by\": \"tour\"}", 0L));

		// jsonb is JSON text, written by the library of your choice: Jackson, Gson, …
		String append = "SELECT es_append(?, ?, ?)";
		version(append, stream, "Listed", "[1, \"two\", null]");
		version(append, stream, "Noted", "\"it's \\\"text\\\"\"");
		System.out.println("data " + value(String.class, "SELECT concat_ws(', ', "
			+ "(SELECT jsonb_object_keys(data) FROM es_read(?, 1, 1)), "
			+ "(SELECT jsonb_array_length(data) || ' elements' FROM es_read(?, 2, 1)), "
			+ "(SELECT data #>> '{}' FROM es_read(?, 3, 1)))", stream, stream, stream));
		long position = value(Long.class, "SELECT position FROM es_read(?)", stream);
		long large = (1L << 53) + 1;
		System.out.println("position " + position + ", and so would be " + value(Long.class, "SELECT ?::bigint", large));

		// Several events, as rows of es_new_event: one array for each of their columns.
		System.out.println("several " + version("SELECT es_append_events(?, ARRAY("
			+ "SELECT ROW(type, data, NULL, id)::es_new_event "
			+ "FROM unnest(?::text[], ?::jsonb[], ?::uuid[]) WITH ORDINALITY AS e (type, data, id, nth) "
			+ "ORDER BY nth), expected_version => ?)",
			stream,
			db.createArrayOf("text", new String[] {"Added", "Added"}),
			db.createArrayOf("jsonb", new String[] {"{\"sku\": \"A1\"}", "{\"sku\": \"B2\"}"}),
			db.createArrayOf("uuid", new UUID[] {UUID.randomUUID(), UUID.randomUUID()}), 3L));

		// The same as one JSON array, which is less to write.
		System.out.println("batch " + version("SELECT es_append_batch(?, ?, ?)", stream,
			"[{\"type\": \"Added\", \"data\": {\"sku\": \"C3\"}}, {\"type\": \"Removed\", \"data\": [\"A1\"], "
			+ "\"event_id\": \"" + UUID.randomUUID() + "\"}]", 5L));

		// Errors have the SQLSTATE, and in DETAIL what a program may parse.
		try {
			version("SELECT es_append(?, 'Closed', expected_version => ?)", stream, 1L);
		} catch (PSQLException error) {
			if (!"VE001".equals(error.getSQLState())) throw error;
			Matcher found = detail(error, "Expected version is (-?[0-9]+), actual version is ([0-9]+)\\.");
			System.out.println("conflict " + error.getSQLState() + ", expected " + Long.parseLong(found.group(1))
				+ ", actual " + Long.parseLong(found.group(2)));
		}

		// The same event again, under the id that the program gave it, and another one under that id.
		UUID id = UUID.randomUUID();
		String give = "SELECT es_append(?, 'Paid', ?, event_id => ?)";
		long first = version(give, stream, "{\"amount\": 5}", id);
		long again = version(give, stream, "{\"amount\": 5}", id);
		try {
			version(give, stream, "{\"amount\": 7}", id);
		} catch (PSQLException error) {
			System.out.println("retry " + first + " " + again + ", " + error.getSQLState() + ", stored at "
				+ version("SELECT version FROM es_find_event(?, ?)", stream, id));
		}

		// A condition that does not hold.
		try {
			version("SELECT es_append_if(jsonb_build_array(jsonb_build_object('stream', ?::text, 'type', 'Opened')), ?, types => ?)",
				stream, position - 1, db.createArrayOf("text", new String[] {"Opened"}));
		} catch (PSQLException error) {
			Matcher found = detail(error, "It is at position ([0-9]+), in stream \"(.*)\"\\.");
			System.out.println("condition " + error.getSQLState() + ", "
				+ (Long.parseLong(found.group(1)) == position && found.group(2).equals(stream)));
		}

		// A time goes back as it came, with its microseconds.
		OffsetDateTime time = value(OffsetDateTime.class, "SELECT recorded_at FROM es_read(?)", stream);
		System.out.println("time " + version("SELECT count(*) FROM es_read(?) WHERE recorded_at = ?", stream, time));

		// A procedure, outside a transaction, so with autocommit. Plain CALL: JDBC's {call …} becomes a
		// SELECT. INOUT arguments come as a row.
		System.out.println("waited " + (version("CALL es_wait_for(?, '10s')", position) > position));

		// What is executed again and again on one PreparedStatement is prepared in the server, too.
		long last = 0;
		try (PreparedStatement prepared = db.prepareStatement(append)) {
			for (int n = 0; n < 11; n++) {
				prepared.setString(1, stream);
				prepared.setString(2, "Counted");
				prepared.setString(3, Integer.toString(n));
				try (ResultSet rows = prepared.executeQuery()) {
					rows.next();
					last = rows.getLong(1);
				}
			}
		}
		System.out.println("prepared " + last);
		db.close();
	}
}
