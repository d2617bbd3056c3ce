/*
 * path.c
 *		What an item of an SQL/JSON path is made of.
 *
 * The one place that knows which kinds of items have paths in them: operands, what a filter
 * or a predicate asks, subscripts of arrays.  Whoever walks over a path goes on from them.
 */
#include "json/path.h"

/* Looks at the two operands of an item. */
static bool
look_at_operands(JsonPathItem *item, EsPathLook look, void *arg)
{
	JsonPathItem part;

	jspGetLeftArg(item, &part);
	if (look(&part, arg))
		return true;
	jspGetRightArg(item, &part);
	return look(&part, arg);
}

/* Looks at the subscripts of an array's accessor. */
static bool
look_at_subscripts(JsonPathItem *item, EsPathLook look, void *arg)
{
	for (int i = 0; i < item->content.array.nelems; i++)
	{
		JsonPathItem from;
		JsonPathItem to;

		if (jspGetArraySubscript(item, &from, &to, i) && look(&to, arg))
			return true;
		if (look(&from, arg))
			return true;
	}
	return false;
}

/*
 * es_path_look_at_parts has the parts of an item looked at, until one is all that is wanted;
 * tells whether one was.
 */
bool
es_path_look_at_parts(JsonPathItem *item, EsPathLook look, void *arg)
{
	JsonPathItem part;

	switch (item->type)
	{
		case jpiAnd:
		case jpiOr:
		case jpiEqual:
		case jpiNotEqual:
		case jpiLess:
		case jpiGreater:
		case jpiLessOrEqual:
		case jpiGreaterOrEqual:
		case jpiAdd:
		case jpiSub:
		case jpiMul:
		case jpiDiv:
		case jpiMod:
		case jpiStartsWith:
			return look_at_operands(item, look, arg);
		case jpiNot:
		case jpiIsUnknown:
		case jpiPlus:
		case jpiMinus:
		case jpiExists:
		case jpiFilter:
			jspGetArg(item, &part);
			return look(&part, arg);
		case jpiLikeRegex:
			jspInitByBuffer(&part, item->base, item->content.like_regex.expr);
			return look(&part, arg);
		case jpiIndexArray:
			return look_at_subscripts(item, look, arg);
		default:				/* nothing that could mention a document */
			return false;
	}
}
