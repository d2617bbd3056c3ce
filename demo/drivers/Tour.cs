// Tour.cs STREAM
//
// What a program in .NET has to know of Npgsql to work with eventstore. It appends to
// STREAM, which must be new, and prints a line for each step; the programs in the other
// languages print the same. PGHOST, PGPORT, PGDATABASE and PGUSER say where the server is.
// Explained in doc/applications.md. Not run by this project's tests, which run on Debian,
// where there is no .NET: test/t/drivers.pl runs the other three.
//
// dotnet run --project demo/drivers STREAM
using System.Text.Json;
using System.Text.RegularExpressions;
using Npgsql;
using NpgsqlTypes;

var stream = args[0];
string Env(string name) => Environment.GetEnvironmentVariable(name) ?? throw new ArgumentException(name);

// Behind a pool that does not keep prepared statements leave Max Auto Prepare out; behind any
// pool No Reset On Close=true, since the pool's server connection is not this client's.
var builder = new NpgsqlDataSourceBuilder($"Host={Env("PGHOST")};Port={Env("PGPORT")};Database={Env("PGDATABASE")};Username={Env("PGUSER")};"
	+ (Environment.GetEnvironmentVariable("PREPARE") == "no" ? "No Reset On Close=true" : "Max Auto Prepare=20"));
// The type is looked up as the first connection is made: create the extension before.
builder.MapComposite<NewEvent>("es_new_event");
await using var store = builder.Build();

// one value of one row
async Task<T> Value<T>(string statement, params object?[] values)
{
	await using var command = store.CreateCommand(statement);
	foreach (var value in values)
		command.Parameters.Add(value as NpgsqlParameter ?? new NpgsqlParameter { Value = value ?? DBNull.Value });
	await using var rows = await command.ExecuteReaderAsync();
	await rows.ReadAsync();
	return rows.GetFieldValue<T>(0);
}

// A string is text to Npgsql, so jsonb has to be said: for an object, an array, a string alike.
NpgsqlParameter Json(object? value) =>
	new() { Value = JsonSerializer.Serialize(value), NpgsqlDbType = NpgsqlDbType.Jsonb };

// Arguments by name, where there are many: those left out have their defaults.
Console.WriteLine("version " + await Value<long>(
	"SELECT es_append($1, 'Opened', $2, metadata => $3, expected_version => $4)",
	stream, Json(new { owner = "ann" }), Json(new { by = "tour" }), 0L));

const string append = "SELECT es_append($1, $2, $3)";
await Value<long>(append, stream, "Listed", Json(new object?[] { 1, "two", null }));
await Value<long>(append, stream, "Noted", Json("it's \"text\""));
var data = new List<JsonDocument>();
long position = 0;
DateTime time = default;
await using (var command = store.CreateCommand("SELECT position, data, recorded_at FROM es_read($1)"))
{
	command.Parameters.Add(new NpgsqlParameter { Value = stream });
	await using var rows = await command.ExecuteReaderAsync();
	while (await rows.ReadAsync())
	{
		if (data.Count == 0) (position, time) = (rows.GetInt64(0), rows.GetDateTime(2));
		data.Add(JsonDocument.Parse(rows.GetString(1)));
	}
}
Console.WriteLine($"data {string.Join(",", data[0].RootElement.EnumerateObject().Select(member => member.Name))}, "
	+ $"{data[1].RootElement.GetArrayLength()} elements, {data[2].RootElement.GetString()}");
const long large = (1L << 53) + 1;
Console.WriteLine($"position {position}, and so would be {await Value<long>("SELECT $1::bigint", large)}");

// Several events, as rows of es_new_event.
NewEvent[] several = [
	new() { Type = "Added", Data = """{"sku": "A1"}""", EventId = Guid.NewGuid() },
	new() { Type = "Added", Data = """{"sku": "B2"}""", EventId = Guid.NewGuid() }];
Console.WriteLine("several " + await Value<long>("SELECT es_append_events($1, $2, expected_version => $3)", stream, several, 3L));

// The same as one JSON array, which is less to write.
object[] batch = [
	new { type = "Added", data = new { sku = "C3" } },
	new { type = "Removed", data = new[] { "A1" }, event_id = Guid.NewGuid() }];
Console.WriteLine("batch " + await Value<long>("SELECT es_append_batch($1, $2, $3)", stream, Json(batch), 5L));

// Errors have the SQLSTATE, and in DETAIL what a program may parse. Npgsql hides DETAIL in
// its messages, since it may have data in it; the property has it.
try
{
	await Value<long>("SELECT es_append($1, 'Closed', expected_version => $2)", stream, 1L);
}
catch (PostgresException error) when (error.SqlState == "VE001")
{
	var found = Regex.Match(error.Detail!, @"^Expected version is (-?[0-9]+), actual version is ([0-9]+)\.$");
	Console.WriteLine($"conflict {error.SqlState}, expected {long.Parse(found.Groups[1].Value)}, actual {long.Parse(found.Groups[2].Value)}");
}

// The same event again, under the id that the program gave it, and another one under that id.
var id = Guid.NewGuid();
const string give = "SELECT es_append($1, 'Paid', $2, event_id => $3)";
var first = await Value<long>(give, stream, Json(new { amount = 5 }), id);
var again = await Value<long>(give, stream, Json(new { amount = 5 }), id);
try
{
	await Value<long>(give, stream, Json(new { amount = 7 }), id);
}
catch (PostgresException error) when (error.SqlState == "VE010")
{
	var stored = await Value<long>("SELECT version FROM es_find_event($1, $2)", stream, id);
	Console.WriteLine($"retry {first} {again}, {error.SqlState}, stored at {stored}");
}

// A condition that does not hold.
try
{
	await Value<long>("SELECT es_append_if($1, $2, types => $3)",
		Json(new[] { new { stream, type = "Opened" } }), position - 1, new[] { "Opened" });
}
catch (PostgresException error) when (error.SqlState == "VE011")
{
	var found = Regex.Match(error.Detail!, @"^It is at position ([0-9]+), in stream ""(.*)""\.$", RegexOptions.Singleline);
	var right = long.Parse(found.Groups[1].Value) == position && found.Groups[2].Value == stream;
	Console.WriteLine($"condition {error.SqlState}, {(right ? "true" : "false")}");
}

// A time goes back as it came, with its microseconds: DateTime of kind UTC.
Console.WriteLine("time " + await Value<long>("SELECT count(*) FROM es_read($1) WHERE recorded_at = $2", stream, time));

// A procedure, outside a transaction. CommandType.StoredProcedure would pass its arguments by
// position only; CALL is plain. INOUT arguments come as a row.
Console.WriteLine("waited " + (await Value<long>("CALL es_wait_for($1, '10s')", position) > position ? "true" : "false"));

// With Max Auto Prepare what is executed again and again is prepared.
long last = 0;
for (var n = 0; n < 11; n++) last = await Value<long>(append, stream, "Counted", Json(n));
Console.WriteLine($"prepared {last}");

// A row of es_new_event; data and metadata are JSON text. Names go by snake_case: event_id.
class NewEvent
{
	public string Type { get; set; } = "";
	public string Data { get; set; } = "{}";
	public string? Metadata { get; set; }
	public Guid EventId { get; set; }
}
