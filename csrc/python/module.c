/* SPDX-License-Identifier: MIT
 *
 * The module ringbell._ends: the types of the ends, and the errors that they raise.
 */
#include "../owned.h"
#include "codec.h"

PyTypeObject *side_type, *record_consumer_type, *end_type, *taking_type, *iterator_type, *loan_type,
	*held_type, *producer_type, *consumer_type, *frame_type, *map_type, *completion_type,
	*request_type, *block_type, *parts_type, *object_completion_type, *object_request_type;
struct errors errors;
struct names names;

/* A base comes before its subclasses. `name` is NULL for a type that only C makes. */
static const struct {
	PyType_Spec *spec;
	PyTypeObject **base;
	PyTypeObject **kept;
	const char *name;
} types[] = {
	{&end_spec, NULL, &end_type, "End"},
	{&side_spec, NULL, &side_type, "Side"},
	{&taking_spec, NULL, &taking_type, "Taking"},
	{&iterator_spec, NULL, &iterator_type, NULL},
	{&loan_spec, NULL, &loan_type, NULL},
	{&held_spec, NULL, &held_type, NULL},
	{&map_spec, NULL, &map_type, NULL},
	{&producer_spec, &end_type, &producer_type, "MessageProducer"},
	{&consumer_spec, &end_type, &consumer_type, "MessageConsumer"},
	{&pipe_consumer_spec, &consumer_type, NULL, "PipeConsumer"},
	{&record_producer_spec, &end_type, NULL, "RecordProducer"},
	{&record_consumer_spec, &end_type, &record_consumer_type, "RecordConsumer"},
	{&driver_spec, &side_type, NULL, "Driver"},
	{&device_spec, &side_type, NULL, "Device"},
	{&frame_spec, NULL, &frame_type, "Frame"},
	{&block_spec, NULL, &block_type, "RecordBlock"},
	{&coalescing_spec, NULL, NULL, "Coalescing"},
	{&parts_spec, NULL, &parts_type, "Parts"},
	{&pickles_spec, NULL, NULL, "Pickles"},
	{&completion_spec, NULL, &completion_type, "Completion"},
	{&object_completion_spec, &completion_type, &object_completion_type, NULL},
	{&request_spec, NULL, &request_type, "Request"},
	{&object_request_spec, &request_type, &object_request_type, NULL},
	{&waiter_spec, NULL, NULL, "Waiter"},
	{&lent_spec, NULL, NULL, "Lent"},
};

static int add_types(PyObject *module)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		PyObject *base = types[i].base ? (PyObject *)*types[i].base : NULL;
		PyObject *type = PyType_FromSpecWithBases(types[i].spec, base);
		if (!type)
			return -1;
		if (types[i].kept)
			*types[i].kept = (PyTypeObject *)Py_NewRef(type);
		if (types[i].name && PyModule_AddObjectRef(module, types[i].name, type)) {
			Py_DECREF(type);
			return -1;
		}
		Py_DECREF(type);
	}
	return 0;
}

static int find_errors(void)
{
	static const struct {
		PyObject **error;
		const char *name;
	} wanted[] = {
		{&errors.any, "RingbellError"},
		{&errors.ring_full, "RingFull"},
		{&errors.ring_empty, "RingEmpty"},
		{&errors.end_of_stream, "EndOfStream"},
		{&errors.peer_lost, "PeerLost"},
		{&errors.request_failed, "RequestFailed"},
		{&errors.message_too_long, "MessageTooLong"},
		{&errors.channel_closed, "ChannelClosed"},
	};
	PyObject *module = PyImport_ImportModule("ringbell.errors");

	if (!module)
		return -1;
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
		if (!(*wanted[i].error = PyObject_GetAttrString(module, wanted[i].name))) {
			Py_DECREF(module);
			return -1;
		}
	Py_DECREF(module);
	return 0;
}

static int find_names(void)
{
	static const struct {
		PyObject **name;
		const char *text;
	} wanted[] = {
		{&names.dtype, "dtype"},
		{&names.hasobject, "hasobject"},
		{&names.names, "names"},
		{&names.numpy, "numpy"},
		{&names.obj, "obj"},
		{&names.raw, "raw"},
		{&names.done, "done"},
		{&names.set_result, "set_result"},
		{&names.set_exception, "set_exception"},
	};

	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
		if (!(*wanted[i].name = PyUnicode_InternFromString(wanted[i].text)))
			return -1;
	names.release = PyObject_GetAttrString((PyObject *)&PyMemoryView_Type, "release");
	return names.release ? 0 : -1;
}

/* This module and _ffi have a copy of the core each. */
static int share_owners(void)
{
	PyObject *module = PyImport_ImportModule("ringbell._ffi");
	PyObject *lib = module ? PyObject_GetAttrString(module, "lib") : NULL;
	PyObject *address = lib ? PyObject_CallMethod(lib, "rb_owners", NULL) : NULL;

	if (address)
		rb_use_owners((uintptr_t)PyLong_AsVoidPtr(address));
	Py_XDECREF(module);
	Py_XDECREF(lib);
	Py_XDECREF(address);
	return PyErr_Occurred() ? -1 : 0;
}

static int execute(PyObject *module)
{
	if (share_owners() || PyModule_AddFunctions(module, closing_methods) ||
	    PyModule_AddFunctions(module, loan_methods) ||
	    PyModule_AddFunctions(module, meeting_methods) ||
	    PyModule_AddFunctions(module, serving_methods) ||
	    PyModule_AddFunctions(module, codec_methods) ||
	    PyModule_AddIntConstant(module, "MUCH_MEMORY", MUCH_MEMORY))
		return -1;
	return find_errors() || find_names() || add_types(module) ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
	{Py_mod_exec, execute},
#ifdef Py_GIL_DISABLED
	/* An atomic word says which thread is inside of an end; everything else belongs to it. */
	{Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
	{0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "ringbell._ends",
	.m_doc = "The ends of a ring: the work for each message or batch.",
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__ends(void)
{
	return PyModuleDef_Init(&definition);
}
